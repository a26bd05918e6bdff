// Stored weights into those a backend computes with, and what is refused on the way.
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/weight_convert.h"
#include "harness.h"
#include "loader_testing.h"

using namespace lrengine;
using namespace loader_testing;
using namespace model_files;

namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

}  // namespace

TEST(loader_uses_the_mapping_where_the_type_is_right) {
    Opened opened({float_tensor("w", {2, 3}, {1, 2, 3, 4, 5, 6}), float_tensor("b", {2}, {7, 8})});
    for (const auto target : {std::optional<DType>(), std::optional(DType::kFloat32)}) {
        WeightLoader loader = opened.loader(target);
        CHECK(opened.in_mapping("w", loader.matrix("w", 2, 3).data));
        CHECK(opened.in_mapping("b", loader.vector("b", 2).data));
    }
    CHECK_EQUAL(opened.storage.bytes(), 0u);
    CHECK(opened.backend.blocks.empty());
}

TEST(loader_uploads_to_a_backend_with_its_own_memory) {
    Opened opened({float_tensor("w", {2, 3}, {1, 2, 3, 4, 5, 6}), float_tensor("b", {2}, {7, 8})},
                  HostBackend::Memory::kOwn);
    WeightLoader loader = opened.loader();
    const Weight weight = loader.matrix("w", 2, 3);
    CHECK(opened.backend.blocks.contains(const_cast<void*>(weight.data)));
    CHECK(values_of(weight) == std::vector<float>({1, 2, 3, 4, 5, 6}));
    CHECK(values_of(loader.vector("b", 2)) == std::vector<float>({7, 8}));
    CHECK_EQUAL(opened.backend.uploaded, 32u);
    CHECK_EQUAL(opened.storage.bytes(), 32u);
}

TEST(loader_copies_what_the_file_does_not_align) {
    for (const std::size_t shift : {1u, 2u, 3u}) {
        Opened opened({float_tensor("w", {1, 3}, {1, 2, 3}), float_tensor("b", {2}, {7, 8})},
                      HostBackend::Memory::kShared, shift);
        WeightLoader loader = opened.loader();
        const Weight weight = loader.matrix("w", 1, 3);
        CHECK(!opened.in_mapping("w", weight.data));
        CHECK(values_of(weight) == std::vector<float>({1, 2, 3}));
        CHECK(values_of(loader.vector("b", 2)) == std::vector<float>({7, 8}));
    }
}

TEST(loader_converts_between_float_types) {
    const std::vector<float> values = random_values(5 * 7);
    const std::pair<const char*, DType> types[] = {
        {"F32", DType::kFloat32}, {"BF16", DType::kBFloat16}, {"F16", DType::kFloat16}};
    const std::pair<DType, float> targets[] = {
        {DType::kFloat32, 1e-2f}, {DType::kBFloat16, 1e-2f}, {DType::kFloat16, 1e-2f}, {DType::kInt8, 3e-2f}};
    for (const auto memory : kMemories) {
        for (const auto& [stored, dtype] : types) {
            for (const auto& [target, tolerance] : targets) {
                const Tensor tensor = dtype == DType::kFloat32 ? float_tensor("w", {5, 7}, values)
                                                               : narrow_tensor("w", stored, {5, 7}, values);
                Opened opened({tensor}, memory);
                const Weight weight = opened.loader(target).matrix("w", 5, 7);
                CHECK(weight.dtype == target && weight.rows == 5 && weight.cols == 7);
                const std::vector<float> found = values_of(weight);
                for (std::size_t i = 0; i < values.size(); ++i) CHECK(std::fabs(found[i] - values[i]) < tolerance * 3);
            }
        }
    }
}

TEST(loader_converts_exactly) {
    Opened opened({narrow_tensor("w", "BF16", {1, 4}, {1.5f, -2.0f, 0.0f, 0x1p-130f}),
                   float_tensor("f", {1, 2}, {1.00390625f, 3.0f})});
    CHECK(values_of(opened.loader(DType::kFloat32).matrix("w", 1, 4)) ==
          std::vector<float>({1.5f, -2.0f, 0.0f, 0x1p-130f}));
    const Weight narrow = opened.loader(DType::kBFloat16).matrix("f", 1, 2);
    CHECK(values_of(narrow) == std::vector<float>({1.0f, 3.0f}));  // a tie, to even
}

TEST(loader_quantizes_per_row_to_nearest_even) {
    Opened opened({float_tensor("w", {4, 4}, {127, -64, 0.5f, 1.5f, 2.5f, -254, 1, -1, 0, 0, 0, 0, 1e-45f, 0, 0, 0})});
    const Weight weight = opened.loader(DType::kInt8).matrix("w", 4, 4);
    const auto* data = static_cast<const std::int8_t*>(weight.data);
    CHECK(std::vector<int>(data, data + 16) ==
          std::vector<int>({127, -64, 0, 2, 1, -127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
    // 2.5 / 2 = 1.25, 1 / 2 ties to 0; the row of zeros, and one whose scale is below the smallest float, have scale 0.
    CHECK(std::vector<float>(weight.scales, weight.scales + 4) == std::vector<float>({1, 2, 0, 0}));
}

TEST(loader_reads_quantized_directories) {
    const std::vector<Tensor> tensors{int8_tensor<int>("w", {2, 3}, {1, -127, 3, 4, 5, 127}),
                                      float_tensor("w_scale", {2}, {0.5f, 0.25f})};
    const std::vector<float> expected{0.5f, -63.5f, 1.5f, 1.0f, 1.25f, 31.75f};
    for (const auto memory : kMemories) {
        for (const auto target : {std::optional<DType>(), std::optional(DType::kInt8), std::optional(DType::kFloat32),
                                  std::optional(DType::kBFloat16), std::optional(DType::kFloat16)}) {
            Opened opened(tensors, memory);
            WeightLoader loader = opened.loader(target);
            const Weight weight = loader.matrix("w", 2, 3);
            CHECK(weight.dtype == target.value_or(DType::kInt8));
            CHECK((weight.scales != nullptr) == (weight.dtype == DType::kInt8));
            for (std::size_t i = 0; i < 6; ++i) CHECK(std::fabs(values_of(weight)[i] - expected[i]) < 0.3f);
            if (target == DType::kFloat32) CHECK(values_of(weight) == expected);
            loader.check_all_used();
        }
    }
}

TEST(loader_quantized_in_memory_equals_quantized_in_the_file) {
    const std::vector<float> values = random_values(9 * 130);
    Opened plain({float_tensor("w", {9, 130}, values)});
    const Weight weight = plain.loader(DType::kInt8).matrix("w", 9, 130);
    for (std::int64_t row = 0; row < 9; ++row) {
        float largest = 0;
        for (std::int64_t col = 0; col < 130; ++col) largest = std::max(largest, std::fabs(values[row * 130 + col]));
        const float scale = largest / 127.0f;  // docs/MODEL_DIRECTORY.md
        CHECK_EQUAL(weight.scales[row], scale);
        for (std::int64_t col = 0; col < 130; ++col) {
            const float expected = std::nearbyint(values[row * 130 + col] / scale);
            CHECK_EQUAL(static_cast<float>(static_cast<const std::int8_t*>(weight.data)[row * 130 + col]), expected);
        }
    }
}

TEST(loader_never_quantizes_tables) {
    Opened opened({float_tensor("p", {2, 2}, {1, 2, 3, 4}), narrow_tensor("h", "F16", {2, 2}, {1, 2, 3, 4})});
    CHECK(opened.loader(DType::kInt8).table("p", 2, 2).dtype == DType::kFloat32);
    CHECK(opened.loader(DType::kInt8).table("h", 2, 2).dtype == DType::kFloat16);
    CHECK(opened.loader(DType::kInt8).matrix("p", 2, 2).dtype == DType::kInt8);
    Opened others({float_tensor("p", {2, 2}, {1, 2, 3, 4}), narrow_tensor("h", "F16", {2, 2}, {1, 2, 3, 4})});
    CHECK(others.loader(DType::kBFloat16).table("p", 2, 2).dtype == DType::kBFloat16);
}

TEST(loader_vectors_become_float32_of_any_shape) {
    Opened opened({narrow_tensor("t", "F16", {2, 1, 2}, {1, 2, 3, 4}), narrow_tensor("b", "BF16", {3}, {5, 6, 7}),
                   float_tensor("s", {}, {9})});
    WeightLoader loader = opened.loader(DType::kInt8);
    CHECK(values_of(loader.vector("t", 4)) == std::vector<float>({1, 2, 3, 4}));
    CHECK(values_of(loader.optional_vector("b", 3)) == std::vector<float>({5, 6, 7}));
    CHECK(values_of(loader.vector("s", 1)) == std::vector<float>({9}));
    CHECK(!loader.optional_vector("none", 3));
    CHECK_ERROR(loader.optional_vector("b", 4), ErrorCode::kModelFile, "b: found shape [3], expected 4 elements");
}

TEST(loader_gives_the_same_memory_for_the_same_name) {
    for (const auto memory : kMemories) {
        Opened opened({float_tensor("w", {2, 2}, {1, 2, 3, 4}), narrow_tensor("b", "F16", {2}, {5, 6}),
                       int8_tensor<int>("q", {1, 2}, {1, 2}), float_tensor("q_scale", {1}, {1})},
                      memory);
        WeightLoader loader = opened.loader(DType::kInt8);
        const Weight first = loader.matrix("w", 2, 2);
        CHECK(loader.matrix("w", 2, 2).data == first.data && loader.matrix("w", 2, 2).scales == first.scales);
        CHECK(loader.vector("b", 2).data == loader.vector("b", 2).data);
        CHECK(loader.matrix("q", 1, 2).scales == loader.matrix("q", 1, 2).scales);
        const std::size_t bytes = opened.storage.bytes();
        WeightLoader second = opened.loader(DType::kInt8);  // a loader of another part of the model
        CHECK(second.matrix("w", 2, 2).data == first.data);
        CHECK(second.matrix("q", 1, 2).data == loader.matrix("q", 1, 2).data);
        CHECK(second.vector("b", 2).data == loader.vector("b", 2).data);
        CHECK_EQUAL(opened.storage.bytes(), bytes);
        second.check_all_used();
    }
}

TEST(loader_refuses_missing_tensors_and_wrong_shapes) {
    Opened opened({float_tensor("w", {2, 3}, {1, 2, 3, 4, 5, 6}), float_tensor("v", {6}, {1, 2, 3, 4, 5, 6})});
    WeightLoader loader = opened.loader();
    CHECK(loader.has("w") && !loader.has("x"));
    CHECK_ERROR(loader.matrix("x", 2, 3), ErrorCode::kModelFile, "found no tensor x");
    CHECK_ERROR(loader.matrix("w", 3, 2), ErrorCode::kModelFile, "w: found shape [2, 3], expected [3, 2]");
    CHECK_ERROR(loader.matrix("v", 2, 3), ErrorCode::kModelFile, "v: found shape [6], expected [2, 3]");
    CHECK_ERROR(loader.table("w", 2, 2), ErrorCode::kModelFile, "expected [2, 2]");
    CHECK_ERROR(loader.vector("w", 5), ErrorCode::kModelFile, "w: found shape [2, 3], expected 5 elements");
    CHECK_ERROR(loader.rows_of("w", 3, 2), ErrorCode::kModelFile, "w: found shape [2, 3], expected [3, 2]");
    loader.matrix("w", 2, 3);
    CHECK_ERROR(loader.matrix("w", 3, 2), ErrorCode::kModelFile, "w: found shape");  // though it is loaded
}

TEST(loader_refuses_types_that_are_no_weights) {
    Opened opened({{"i", "I64", {1, 1}, std::string(8, '\0')},
                   {"d", "F64", {1, 1}, std::string(8, '\0')},
                   int8_tensor<int>("q", {1, 1}, {1}),
                   float_tensor("q_scale", {1}, {1})});
    WeightLoader loader = opened.loader();
    CHECK_ERROR(loader.matrix("i", 1, 1), ErrorCode::kModelFile, "i: found int64, expected float32");
    CHECK_ERROR(loader.matrix("d", 1, 1), ErrorCode::kModelFile, "d: found float64");
    CHECK_ERROR(loader.vector("i", 1), ErrorCode::kModelFile, "i: found int64");
    CHECK_ERROR(loader.vector("q", 1), ErrorCode::kModelFile, "q: found int8");
    CHECK_ERROR(loader.table("q", 1, 1), ErrorCode::kModelFile, "q: found int8");
    CHECK_ERROR(opened.loader(DType::kInt64), ErrorCode::kInvalidArgument, "int64");
}

// What is converted or copied is refused at once; what stays in the mapping, by the search that it was left to.
TEST(loader_refuses_nan_and_infinity_wherever_they_are) {
    using Memory = HostBackend::Memory;
    constexpr std::int64_t kCount = 200'000;  // several pieces of work
    for (const float bad : {kNan, -kNan, kInf, -kInf}) {
        for (const std::int64_t place : {std::int64_t{0}, kCount / 2, kCount - 1}) {
            for (const char* dtype : {"F32", "BF16", "F16"}) {
                std::vector<float> values(kCount, 1.0f);
                values[static_cast<std::size_t>(place)] = bad;
                const bool wide = std::string(dtype) == "F32";
                const Tensor tensor = wide ? float_tensor("w", {2, kCount / 2}, values)
                                           : narrow_tensor("w", dtype, {2, kCount / 2}, values);
                const auto refused = [&](bool searched, Memory memory, const auto& load) {
                    Opened opened({tensor}, memory);
                    if (searched) {
                        load(opened);
                        CHECK_ERROR(opened.search.finish(), ErrorCode::kModelFile, "w: found NaN or Inf");
                    } else {
                        CHECK_ERROR(load(opened), ErrorCode::kModelFile, "w: found NaN or Inf");
                    }
                };
                for (const Memory memory : {Memory::kShared, Memory::kOwn}) {
                    const bool shared = memory == Memory::kShared;
                    for (const auto target :
                         {std::optional<DType>(), std::optional(DType::kFloat32), std::optional(DType::kInt8)}) {
                        const bool placed = !target || (wide && *target == DType::kFloat32);
                        refused(placed && shared, memory,
                                [&](Opened& opened) { opened.loader(target).matrix("w", 2, kCount / 2); });
                    }
                    refused(wide && shared, memory, [](Opened& opened) { opened.loader().vector("w", kCount); });
                    refused(shared, memory, [](Opened& opened) { opened.loader().table("w", 2, kCount / 2); });
                }
            }
        }
    }
}

// Every 16-bit pattern, alone in whole blocks of the search, in their last element and after them.
TEST(values_are_sound_unless_an_exponent_is_all_ones) {
    constexpr std::size_t kCount = 300;
    std::vector<std::uint16_t> narrow(kCount + 1, 0x3c01);
    std::vector<std::uint32_t> wide(kCount + 1, 0x3f800001);
    for (std::uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
        const std::size_t place = pattern % 7 == 0 ? kCount - 1 : (pattern * 31) % kCount;
        // Not aligned, as files may have them.
        const char* source = reinterpret_cast<const char*>(narrow.data()) + 1;
        const auto put = [&](auto bits, auto& values) {
            std::memcpy(reinterpret_cast<char*>(values.data()) + 1 + place * sizeof(bits), &bits, sizeof(bits));
        };
        const auto bits = static_cast<std::uint16_t>(pattern);
        put(bits, narrow);
        CHECK_EQUAL(values_are_sound(source, DType::kFloat16, kCount), (pattern & 0x7c00) != 0x7c00);
        CHECK_EQUAL(values_are_sound(source, DType::kBFloat16, kCount), (pattern & 0x7f80) != 0x7f80);
        put(std::uint16_t{0x3c01}, narrow);
        put(pattern << 16 | (pattern % 3), wide);
        CHECK_EQUAL(values_are_sound(reinterpret_cast<const char*>(wide.data()) + 1, DType::kFloat32, kCount),
                    (pattern & 0x7f80) != 0x7f80);
        put(std::uint32_t{0x3f800001}, wide);
    }
}

TEST(loader_takes_the_largest_and_the_smallest_numbers) {
    const std::vector<float> values{std::numeric_limits<float>::max(), std::numeric_limits<float>::lowest(),
                                    std::numeric_limits<float>::denorm_min(), -0.0f};
    Opened opened({float_tensor("w", {1, 4}, values)});
    CHECK(values_of(opened.loader().matrix("w", 1, 4)) == values);
    CHECK(std::isfinite(values_of(opened.loader(DType::kInt8).table("w", 1, 4))[0]));
}

TEST(loader_refuses_numbers_that_the_target_cannot_hold) {
    Opened opened(
        {float_tensor("w", {1, 2}, {70000.0f, 1.0f}), float_tensor("m", {1, 1}, {std::numeric_limits<float>::max()})});
    CHECK_ERROR(opened.loader(DType::kFloat16).matrix("w", 1, 2), ErrorCode::kModelFile, "too large for float16");
    CHECK_ERROR(opened.loader(DType::kBFloat16).matrix("m", 1, 1), ErrorCode::kModelFile, "too large for bfloat16");
}

TEST(loader_refuses_scales_that_are_no_scales) {
    const auto refused = [](const std::vector<Tensor>& scale, const std::string& fragment) {
        std::vector<Tensor> tensors{int8_tensor<int>("w", {2, 2}, {1, 2, 3, 4})};
        tensors.insert(tensors.end(), scale.begin(), scale.end());
        Opened opened(tensors);
        for (const auto target : {std::optional<DType>(), std::optional(DType::kFloat32)}) {
            CHECK_ERROR(opened.loader(target).matrix("w", 2, 2), ErrorCode::kModelFile, fragment);
        }
    };
    refused({}, "found no tensor w_scale");
    refused({float_tensor("w_scale", {3}, {1, 1, 1})}, "w_scale: found shape [3], expected [2]");
    refused({float_tensor("w_scale", {2, 1}, {1, 1})}, "w_scale: found shape");
    refused({int8_tensor<int>("w_scale", {2}, {1, 1})}, "w_scale: found int8");
    refused({float_tensor("w_scale", {2}, {1, kNan})}, "w_scale: found NaN");
    refused({float_tensor("w_scale", {2}, {kInf, 1})}, "w_scale: found NaN or Inf");
    refused({float_tensor("w_scale", {2}, {1, -1})}, "scales of 0 or more");
}

TEST(loader_refuses_an_int8_that_symmetric_quantization_never_writes) {
    const std::vector<Tensor> tensors{int8_tensor<int>("w", {1, 2}, {1, -128}), float_tensor("w_scale", {1}, {1})};
    Opened placed(tensors), opened(tensors);
    placed.loader().matrix("w", 1, 2);
    CHECK_ERROR(placed.search.finish(), ErrorCode::kModelFile, "w: found -128");
    CHECK_ERROR(opened.loader(DType::kFloat32).matrix("w", 1, 2), ErrorCode::kModelFile, "w: found -128");
}

TEST(loader_names_tensors_that_nobody_asked_for) {
    Opened opened(
        {float_tensor("w", {1, 1}, {1}), float_tensor("alias", {1, 1}, {1}), float_tensor("extra", {1}, {1})});
    WeightLoader loader = opened.loader();
    loader.matrix("w", 1, 1);
    CHECK_ERROR(loader.check_all_used(), ErrorCode::kModelFile,
                "2 tensors that the model of config.json does not have (alias, extra)");
    loader.ignore("alias");
    CHECK_ERROR(loader.check_all_used(), ErrorCode::kModelFile, "(extra)");
    loader.vector("extra", 1);
    loader.check_all_used();
}

TEST(loader_passes_on_a_lack_of_memory_and_stays_whole) {
    Opened opened({narrow_tensor("w", "F16", {64, 64}, std::vector<float>(4096, 1.0f))});
    opened.backend.limit = 100;
    WeightLoader loader = opened.loader(DType::kFloat32);
    CHECK_ERROR(loader.matrix("w", 64, 64), ErrorCode::kOutOfMemory, "no memory");
    opened.backend.limit = 1 << 20;
    CHECK_EQUAL(values_of(loader.matrix("w", 64, 64)).size(), 4096u);
}
