// What a correct file gives, and the checks of the file's own numbers.
#include "core/safetensors.h"

#include <cstring>

#include "core/error.h"
#include "harness.h"
#include "model_files.h"

using namespace lrengine;
using namespace model_files;

namespace {

std::vector<TensorRecord> read(const std::string& bytes) {
    return read_safetensors(std::as_bytes(std::span(bytes.data(), bytes.size())), "F");
}

// One float32 tensor of four numbers, whose entry is given.
std::string with_entry(const std::string& entry, std::size_t data_bytes = 16) {
    return safetensors_bytes("{\"w\":" + entry + "}", std::string(data_bytes, '\0'));
}

std::string with_range(const std::string& offsets, std::size_t data_bytes = 16) {
    return with_entry(R"({"dtype":"F32","shape":[2,2],"data_offsets":)" + offsets + "}", data_bytes);
}

std::string with_shape(const std::string& shape, std::size_t data_bytes = 16) {
    return with_entry(
        R"({"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,)" + std::to_string(data_bytes) + "]}",
        data_bytes);
}

std::string two_tensors(const std::string& first, const std::string& second, std::size_t data_bytes) {
    const std::string header = R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
    return safetensors_bytes(header, std::string(data_bytes, '\0'));
}

#define CHECK_REFUSED(bytes, fragment) CHECK_ERROR(read(bytes), ErrorCode::kModelFile, fragment)

}  // namespace

TEST(safetensors_gives_every_tensor_in_file_order) {
    const std::string bytes = safetensors_bytes({float_tensor("z", {2, 3}, {1, 2, 3, 4, 5, 6}),
                                                 {"a", "BF16", {2}, bytes_of<std::uint16_t>({0x3f80, 0x4000})},
                                                 {"scalar", "I64", {}, bytes_of<std::int64_t>({-7})}});
    const std::vector<TensorRecord> records = read(bytes);
    REQUIRE(records.size() == 3);
    CHECK_EQUAL(records[0].name, "z");
    CHECK_EQUAL(records[0].file, "F");
    CHECK(records[0].dtype == DType::kFloat32 && records[0].shape == std::vector<std::int64_t>({2, 3}));
    float last;
    std::memcpy(&last, static_cast<const char*>(records[0].data) + 20, sizeof last);
    CHECK_EQUAL(last, 6.0f);
    CHECK(records[1].dtype == DType::kBFloat16 && records[1].bytes == 4);
    CHECK(records[2].shape.empty() && records[2].bytes == 8);
}

TEST(safetensors_knows_its_types) {
    const std::pair<const char*, std::size_t> types[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"F16", 2},
                                                         {"BF16", 2}, {"I32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}};
    for (const auto& [dtype, size] : types) {
        const auto records = read(safetensors_bytes({{"t", dtype, {3}, std::string(3 * size, '\0')}}));
        CHECK_EQUAL(size_of(records.at(0).dtype), size);
    }
}

TEST(safetensors_takes_metadata_of_strings_alone) {
    const std::string tensor = R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
    CHECK_EQUAL(read(safetensors_bytes(R"({"__metadata__":{"format":"pt"},)" + tensor + "}", "x")).size(), 1u);
    CHECK_REFUSED(safetensors_bytes(R"({"__metadata__":{"format":1},)" + tensor + "}", "x"), "__metadata__.format");
    CHECK_REFUSED(safetensors_bytes(R"({"__metadata__":[],)" + tensor + "}", "x"), "__metadata__");
}

TEST(safetensors_refuses_a_header_length_that_lies) {
    const std::string header = R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    CHECK_EQUAL(read(safetensors_bytes(header, "x")).size(), 1u);
    CHECK_REFUSED("", "8 bytes");
    CHECK_REFUSED("1234567", "8 bytes");
    CHECK_REFUSED(safetensors_bytes(header, "x", 0), "0 bytes");
    CHECK_REFUSED(safetensors_bytes(header, "x", 1), "1 bytes");
    CHECK_REFUSED(safetensors_bytes(header, "x", header.size() + 2), "that follow its length");
    CHECK_REFUSED(safetensors_bytes(header, "x", 100'000'001), "100000001 bytes");
    for (const std::uint64_t wrapping : {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, std::uint64_t{1} << 63}) {
        CHECK_REFUSED(safetensors_bytes(header, "x", wrapping), "header of " + std::to_string(wrapping));
    }
}

TEST(safetensors_refuses_a_header_that_is_not_plain_json) {
    CHECK_REFUSED(safetensors_bytes(" {}", ""), "begin with {");
    CHECK_REFUSED(safetensors_bytes("[]", ""), "begin with {");
    CHECK_REFUSED(safetensors_bytes("{]", ""), "not JSON");
    CHECK_REFUSED(safetensors_bytes("{} x", ""), "not JSON");
    CHECK_REFUSED(safetensors_bytes("{\"\xff\":1}", ""), "UTF-8");
    CHECK_REFUSED(safetensors_bytes("{\"\xc0\x80\":1}", ""), "UTF-8");
    CHECK_REFUSED(safetensors_bytes("{\"\\ud800\":1}", ""), "not JSON");
    CHECK_REFUSED(safetensors_bytes(std::string("{\"a\0\":1}", 8), ""), "not JSON");
    CHECK_REFUSED(safetensors_bytes("{}", ""), "no tensors");
    CHECK_REFUSED(safetensors_bytes("{}", "left over"), "no tensors");
    const std::string entry = R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
    CHECK_REFUSED(safetensors_bytes("{" + entry + "," + entry + "}", "x"), "\"w\" twice");
    CHECK_REFUSED(safetensors_bytes("{" + entry + R"(,"\u0077":{}})", "x"), "\"w\" twice");
    CHECK_REFUSED(with_entry(R"({"dtype":"F32","dtype":"F16","shape":[2,2],"data_offsets":[0,16]})"),
                  "\"dtype\" twice");
    CHECK_REFUSED(with_entry(R"({"dtype":"F32","shape":[[2],2],"data_offsets":[0,16]})"), "nesting");
    CHECK_REFUSED(safetensors_bytes("{\"w\":" + std::string(5'000'000, '['), ""), "nesting");
}

TEST(safetensors_refuses_entries_that_are_not_a_tensor) {
    CHECK_REFUSED(with_entry("1"), "w: found 1");
    CHECK_REFUSED(with_entry("null"), "w: found null");
    CHECK_REFUSED(with_entry("[]"), "w: found a list");
    CHECK_REFUSED(with_entry("{}"), "w.dtype");
    CHECK_REFUSED(with_entry(R"({"dtype":"F32","data_offsets":[0,16]})"), "w.shape");
    CHECK_REFUSED(with_entry(R"({"dtype":"F32","shape":[2,2]})"), "w.data_offsets");
    CHECK_REFUSED(with_entry(R"({"dtype":"F32","shape":[2,2],"data_offsets":[0,16],"more":1})"), "alone");
}

TEST(safetensors_refuses_offsets_that_lie) {
    CHECK_EQUAL(read(with_range("[0,16]")).size(), 1u);
    CHECK_REFUSED(with_range("[]"), "begin and end");
    CHECK_REFUSED(with_range("[0]"), "begin and end");
    CHECK_REFUSED(with_range("[0,8,16]"), "begin and end");
    CHECK_REFUSED(with_range("\"0,16\""), "expected a list");
    CHECK_REFUSED(with_range("[0,16.0]"), "found 16.0");
    CHECK_REFUSED(with_range("[-16,0]"), "found -16");
    CHECK_REFUSED(with_range("[0,true]"), "found true");
    CHECK_REFUSED(with_range("[16,0]"), "data_offsets[1]: found 0");
    CHECK_REFUSED(with_range("[0,17]"), "found 17");
    CHECK_REFUSED(with_range("[4,20]"), "found 20");
    CHECK_REFUSED(with_range("[0,18446744073709551616]"), "data_offsets[1]");
    CHECK_REFUSED(with_range("[18446744073709551600,18446744073709551615]"), "data_offsets[0]");
    CHECK_REFUSED(with_range("[0,9223372036854775808]"), "data_offsets[1]");
}

TEST(safetensors_refuses_overlaps_holes_and_rests) {
    CHECK_EQUAL(read(two_tensors("[0,4]", "[4,8]", 8)).size(), 2u);
    CHECK_EQUAL(read(two_tensors("[4,8]", "[0,4]", 8)).size(), 2u);
    CHECK_REFUSED(two_tensors("[0,4]", "[0,4]", 4), "no overlap");
    CHECK_REFUSED(two_tensors("[0,4]", "[2,6]", 6), "no overlap");
    CHECK_REFUSED(two_tensors("[0,4]", "[5,9]", 9), "no hole");
    CHECK_REFUSED(two_tensors("[1,5]", "[5,9]", 9), "no hole");
    CHECK_REFUSED(two_tensors("[0,4]", "[4,8]", 9), "9 bytes of data");
    CHECK_REFUSED(with_range("[0,16]", 17), "17 bytes of data");
}

TEST(safetensors_refuses_shapes_that_lie) {
    CHECK_EQUAL(read(with_shape("[1,1,1,1,1,1,2,2]")).size(), 1u);
    CHECK_REFUSED(with_shape("[1,1,1,1,1,1,1,2,2]"), "at most 8");
    CHECK_REFUSED(with_shape("[-2,-2]"), "found -2");
    CHECK_REFUSED(with_shape("[0,4]", 0), "found 0");
    CHECK_REFUSED(with_shape("[2,2.0]"), "found 2.0");
    CHECK_REFUSED(with_shape("[\"2\",2]"), "found \"2\"");
    CHECK_REFUSED(with_shape("4"), "expected a list");
    CHECK_REFUSED(with_shape("[2,3]"), "16 bytes, expected 24");
    CHECK_REFUSED(with_shape("[2]"), "expected 8");
    CHECK_REFUSED(with_shape("[18446744073709551615,1]"), "shape[0]");
    // 2^62 * 4 bytes and 2^33 * 2^31 wrap to nothing, which the empty range would match.
    CHECK_REFUSED(with_shape("[4611686018427387904]", 0), "fewer than 2^64");
    CHECK_REFUSED(with_shape("[8589934592,2147483648]", 0), "fewer than 2^64");
    CHECK_REFUSED(with_shape("[4294967296,4294967297]", 16), "fewer than 2^64");
}

TEST(safetensors_refuses_unknown_types) {
    for (const char* dtype : {"F8_E4M3", "f32", "U64", "F4", "", "F320"}) {
        const std::string entry = std::string(R"({"dtype":")") + dtype + R"(","shape":[16],"data_offsets":[0,16]})";
        CHECK_REFUSED(with_entry(entry), std::string("\"") + dtype + "\", expected one of F32");
    }
    CHECK_REFUSED(with_entry(R"({"dtype":7,"shape":[16],"data_offsets":[0,16]})"), "dtype: found 7");
}
