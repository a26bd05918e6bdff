#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/json.h"

namespace lrengine {

namespace {

static_assert(std::endian::native == std::endian::little, "weights are used in place, and the format is little endian");

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLargestHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMostDimensions = 8;
constexpr int kHeaderDepth = 3;  // document, tensor, list

constexpr std::array<std::pair<std::string_view, DType>, 10> kTypes{{
    {"F32", DType::kFloat32},
    {"F16", DType::kFloat16},
    {"BF16", DType::kBFloat16},
    {"I8", DType::kInt8},
    {"U8", DType::kUInt8},
    {"I16", DType::kInt16},
    {"I32", DType::kInt32},
    {"I64", DType::kInt64},
    {"BOOL", DType::kBool},
    {"F64", DType::kFloat64},
}};

[[noreturn]] void refuse(const std::string& where, const std::string& found, const std::string& expected) {
    fail(ErrorCode::kModelFile, where + ": found " + found + ", expected " + expected);
}

// The JSON between the length and the data.
std::string_view header_of(std::span<const std::byte> file, const std::string& path) {
    if (file.size() < kLengthBytes) {
        refuse(path, std::to_string(file.size()) + " bytes", "the 8 bytes of the header's length");
    }
    std::uint64_t length = 0;
    std::memcpy(&length, file.data(), sizeof length);
    const std::uint64_t available = file.size() - kLengthBytes;
    if (length < 2 || length > kLargestHeader) {
        refuse(path, "a header of " + std::to_string(length) + " bytes", "2 to " + std::to_string(kLargestHeader));
    }
    if (length > available) {
        refuse(path, "a header of " + std::to_string(length) + " bytes",
               "at most the " + std::to_string(available) + " bytes that follow its length");
    }
    const char* text = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
    if (*text != '{') refuse(path, "a header that does not begin with {", "JSON's {");
    return {text, length};
}

DType type_of(const JsonValue& field) {
    const std::string name = field.text();
    for (const auto& [spelling, dtype] : kTypes) {
        if (spelling == name) return dtype;
    }
    std::string known;
    for (const auto& entry : kTypes) known += (known.empty() ? "" : ", ") + std::string(entry.first);
    field.refuse("one of " + known);
}

std::vector<std::int64_t> shape_of(const JsonValue& field) {
    const std::vector<JsonValue> dimensions = field.elements();
    if (dimensions.size() > kMostDimensions) field.refuse("at most " + std::to_string(kMostDimensions) + " dimensions");
    std::vector<std::int64_t> shape;
    for (const JsonValue& dimension : dimensions) shape.push_back(dimension.integer(1, INT64_MAX));
    return shape;
}

// Bytes of a dense tensor; nothing when they do not fit in 64 bits.
std::optional<std::size_t> bytes_of(const std::vector<std::int64_t>& shape, DType dtype) {
    std::size_t bytes = size_of(dtype);
    for (const std::int64_t dimension : shape) {
        if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(dimension), &bytes)) return std::nullopt;
    }
    return bytes;
}

void check_metadata(const JsonValue& metadata) {
    for (const std::string& key : metadata.keys()) metadata.at(key).text();
}

TensorRecord record_of(const std::string& name, const JsonValue& entry, std::span<const std::byte> data,
                       const std::string& path) {
    TensorRecord record;
    record.name = name;
    record.file = path;
    record.dtype = type_of(entry.at("dtype"));
    record.shape = shape_of(entry.at("shape"));
    const JsonValue offsets = entry.at("data_offsets");
    if (entry.keys().size() != 3) entry.refuse("dtype, shape and data_offsets alone");
    const std::vector<JsonValue> range = offsets.elements();
    if (range.size() != 2) offsets.refuse("begin and end");
    const std::int64_t begin = range[0].integer(0, static_cast<std::int64_t>(data.size()));
    const std::int64_t end = range[1].integer(begin, static_cast<std::int64_t>(data.size()));
    const std::optional<std::size_t> bytes = bytes_of(record.shape, record.dtype);
    if (!bytes) entry.at("shape").refuse("fewer than 2^64 bytes");
    record.bytes = static_cast<std::size_t>(end - begin);
    if (*bytes != record.bytes) {
        refuse(path + ": " + name, "data_offsets of " + std::to_string(record.bytes) + " bytes",
               std::to_string(*bytes) + ", which shape and dtype make");
    }
    record.data = data.data() + begin;
    return record;
}

// Sorted by position, each tensor must begin where the one before ended, and the last one end where the file does.
void check_coverage(const std::vector<TensorRecord>& records, std::span<const std::byte> data,
                    const std::string& path) {
    const std::byte* next = data.data();
    for (const TensorRecord& record : records) {
        const auto* begin = static_cast<const std::byte*>(record.data);
        if (begin != next) {
            refuse(path + ": " + record.name + ": data_offsets", "begin " + std::to_string(begin - data.data()),
                   std::to_string(next - data.data()) + ", the end of the tensor before (no overlap, no hole)");
        }
        next = begin + record.bytes;
    }
    const auto covered = static_cast<std::size_t>(next - data.data());
    if (covered != data.size()) {
        refuse(path, std::to_string(data.size()) + " bytes of data",
               std::to_string(covered) + ", the end of the last tensor");
    }
}

}  // namespace

std::vector<TensorRecord> read_safetensors(std::span<const std::byte> file, const std::string& path) {
    const std::string_view header = header_of(file, path);
    const std::span<const std::byte> data = file.subspan(kLengthBytes + header.size());
    const JsonLimits limits{.bytes = kLargestHeader, .depth = kHeaderDepth};
    const JsonValue document = JsonValue::parse(header, path, limits);
    std::vector<TensorRecord> records;
    for (const std::string& name : document.keys()) {
        const JsonValue entry = document.at(name);
        if (name == "__metadata__") {
            check_metadata(entry);
        } else if (name.find('\0') != std::string::npos) {
            entry.refuse("a tensor whose name has no zero byte");
        } else {
            records.push_back(record_of(name, entry, data, path));
        }
    }
    if (records.empty()) refuse(path, "no tensors", "at least one");
    std::sort(records.begin(), records.end(),
              [](const TensorRecord& a, const TensorRecord& b) { return a.data < b.data; });
    check_coverage(records, data, path);
    return records;
}

}  // namespace lrengine
