// int4 matrices: stored ones, those quantised on the way, and hostile files.
#include <cmath>
#include <limits>

#include "core/error.h"
#include "harness.h"
#include "loader_testing.h"

using namespace lrengine;
using namespace loader_testing;
using namespace model_files;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Tensor levels_tensor(const std::string& name, std::vector<std::int64_t> shape, const std::vector<int>& bytes) {
    return {name, "U8", std::move(shape), bytes_of(std::vector<std::uint8_t>(bytes.begin(), bytes.end()))};
}

Tensor scales_tensor(std::vector<std::int64_t> shape, const std::vector<float>& values) {
    return narrow_tensor("w_scale", "BF16", std::move(shape), values);
}

std::vector<int> counting_bytes(int count) {
    std::vector<int> bytes;
    for (int i = 0; i < count; ++i) bytes.push_back((i * 37 + 11) % 256);
    return bytes;
}

// By the definition of core/int4_groups.h.
std::vector<float> numbers_of(const std::vector<int>& bytes, const std::vector<float>& scales, int rows, int cols,
                              int group_size) {
    std::vector<float> values;
    const int groups = (cols + group_size - 1) / group_size;
    for (int row = 0; row < rows; ++row) {
        for (int col = 0; col < cols; ++col) {
            const int byte = bytes[static_cast<std::size_t>(row * cols / 2 + col / 32 * 16 + col % 16)];
            const int level = col % 32 < 16 ? byte % 16 : byte / 16;
            values.push_back(scales[static_cast<std::size_t>(row * groups + col / group_size)] *
                             static_cast<float>(level - 8));
        }
    }
    return values;
}

double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
    return sum;
}

}  // namespace

TEST(loader_reads_int4_matrices_of_every_group_size) {
    const std::vector<int> bytes = counting_bytes(2 * 80);
    for (const int group_size : {32, 64, 128}) {
        const int groups = (160 + group_size - 1) / group_size;  // the last one short of 64 and 128
        std::vector<float> scales;
        for (int i = 0; i < 2 * groups; ++i) scales.push_back(i % 3 == 1 ? -0.5f : 0.125f * static_cast<float>(i));
        const std::vector<float> expected = numbers_of(bytes, scales, 2, 160, group_size);
        for (const auto memory : kMemories) {
            for (const auto target : {std::optional<DType>(), std::optional(DType::kInt4),
                                      std::optional(DType::kFloat32), std::optional(DType::kBFloat16)}) {
                Opened opened({levels_tensor("w", {2, 80}, bytes), scales_tensor({2, groups}, scales)}, memory);
                WeightLoader loader = opened.loader(target, group_size);
                const Weight weight = loader.matrix("w", 2, 160);
                CHECK(weight.dtype == target.value_or(DType::kInt4) && weight.rows == 2 && weight.cols == 160);
                CHECK(values_of(weight) == expected);  // these scales are exact in bfloat16, times a level too
                CHECK(values_of(loader.matrix("w", 2, 160)) == expected);
                const bool in_place = weight.dtype == DType::kInt4 && memory == HostBackend::Memory::kShared;
                CHECK(opened.in_mapping("w", weight.data) == in_place);
                loader.check_all_used();
            }
        }
    }
}

TEST(loader_reads_int4_at_any_address) {
    const std::vector<int> bytes = counting_bytes(16);
    for (const std::size_t shift : {1u, 3u}) {
        for (const auto target : {std::optional<DType>(), std::optional(DType::kFloat32)}) {
            Opened opened({levels_tensor("w", {1, 16}, bytes), scales_tensor({1, 1}, {0.5f})},
                          HostBackend::Memory::kShared, shift);
            CHECK(values_of(opened.loader(target).matrix("w", 1, 32)) == numbers_of(bytes, {0.5f}, 1, 32, 64));
        }
    }
}

TEST(loader_quantizes_to_int4_with_less_error_than_the_largest_value_gives) {
    const std::vector<float> values = random_values(40 * 224);
    Opened opened({float_tensor("w", {40, 224}, values)});
    for (const std::int64_t group_size : {32, 64, 128}) {
        const Weight weight = opened.loader(DType::kInt4, group_size).matrix("w", 40, 224);
        CHECK(weight.dtype == DType::kInt4 && weight.group_size == group_size);
        std::vector<float> plain;  // scale = max / 7
        for (std::size_t first = 0; first < values.size(); first += 32) {
            const std::size_t row_end = first / 224 * 224 + 224, group = static_cast<std::size_t>(group_size);
            const std::size_t begin = first / 224 * 224 + first % 224 / group * group;
            float largest = 0;
            for (std::size_t i = begin; i < std::min(begin + group, row_end); ++i) {
                largest = std::max(largest, std::fabs(values[i]));
            }
            for (std::size_t i = first; i < first + 32; ++i) {
                plain.push_back(std::nearbyint(values[i] / (largest / 7)) * (largest / 7));
            }
        }
        const double found = squared_error(values_of(weight), values), before = squared_error(plain, values);
        CHECK(found < 0.8 * before);
        opened.storage.matrices.clear();
    }
}

TEST(loader_quantizes_levels_and_extremes_to_int4_exactly) {
    std::vector<float> values(96, 0.0f);  // groups: the levels themselves, zeros, and the largest
    for (std::size_t i = 0; i < 32; ++i) values[i] = 0.375f * static_cast<float>(static_cast<int>(i % 16) - 8);
    values[64] = 3e34f;
    values[65] = -3e34f;
    Opened opened({float_tensor("w", {1, 96}, values)});
    const Weight weight = opened.loader(DType::kInt4, 32).matrix("w", 1, 96);
    const std::vector<float> found = values_of(weight);
    for (std::size_t i = 0; i < 64; ++i) CHECK_EQUAL(found[i], values[i]);
    CHECK_EQUAL(weight.group_scales[1], 0u);
    for (std::size_t i = 64; i < 96; ++i) CHECK(std::fabs(found[i] - values[i]) <= 0.15f * std::fabs(values[i]));
}

TEST(loader_keeps_embeddings_outputs_and_broken_blocks_in_int8) {
    const std::vector<float> ones(64, 1.0f);
    Opened opened({float_tensor("encoder.embeddings.word_embeddings.weight", {1, 64}, ones),
                   float_tensor("llm.lm_head.weight", {2, 32}, ones),
                   float_tensor("llm.embed_tokens.weight", {1, 64}, ones),
                   float_tensor("encoder.shared.weight", {1, 64}, ones), float_tensor("odd.weight", {4, 16}, ones),
                   float_tensor("plain.weight", {2, 32}, ones), float_tensor("table.weight", {2, 32}, ones)});
    WeightLoader loader = opened.loader(DType::kInt4);
    CHECK(loader.matrix("encoder.embeddings.word_embeddings.weight", 1, 64).dtype == DType::kInt8);
    CHECK(loader.matrix("llm.lm_head.weight", 2, 32).dtype == DType::kInt8);
    CHECK(loader.matrix("llm.embed_tokens.weight", 1, 64).dtype == DType::kInt8);
    CHECK(loader.matrix("encoder.shared.weight", 1, 64).dtype == DType::kInt8);
    CHECK(loader.matrix("odd.weight", 4, 16).dtype == DType::kInt8);
    CHECK(loader.matrix("plain.weight", 2, 32).dtype == DType::kInt4);
    CHECK(loader.table("table.weight", 2, 32).dtype == DType::kFloat32);
}

TEST(loader_refuses_int4_that_is_not_what_the_format_says) {
    const std::vector<int> bytes = counting_bytes(64);
    const auto refused = [&](const std::vector<Tensor>& tensors, std::int64_t cols, const std::string& fragment) {
        Opened opened(tensors);
        for (const auto target :
             {std::optional<DType>(), std::optional(DType::kFloat32), std::optional(DType::kInt4)}) {
            CHECK_ERROR(opened.loader(target, 64).matrix("w", 2, cols), ErrorCode::kModelFile, fragment);
        }
    };
    const Tensor levels = levels_tensor("w", {2, 32}, bytes);
    refused({levels}, 64, "found no tensor w_scale");
    refused({levels, scales_tensor({2, 1}, {1, 1})}, 128, "w: found shape [2, 32], expected [2, 64]");
    refused({levels, scales_tensor({2, 1}, {1, 1})}, 32, "w: found shape [2, 32], expected [2, 16]");
    refused({levels, scales_tensor({2, 1}, {1, 1})}, 63, "w: found int4, expected another type");
    refused({levels, scales_tensor({2, 1}, {1, 1})}, 48, "w: found int4, expected another type");
    refused({levels_tensor("w", {64}, bytes), scales_tensor({2, 1}, {1, 1})}, 64, "w: found shape [64]");
    refused({levels, scales_tensor({2, 2}, {1, 1, 1, 1})}, 64, "w_scale: found shape [2, 2], expected [2, 1]");
    refused({levels, scales_tensor({2}, {1, 1})}, 64, "w_scale: found shape [2], expected [2, 1]");
    refused({levels, float_tensor("w_scale", {2, 1}, {1, 1})}, 64, "w_scale: found float32, expected bfloat16");
    refused({levels, narrow_tensor("w_scale", "F16", {2, 1}, {1, 1})}, 64, "w_scale: found float16, expected bfloat16");
    refused({levels, levels_tensor("w_scale", {2, 1}, {1, 1})}, 64, "w_scale: found uint8, expected bfloat16");
    refused({levels, scales_tensor({2, 1}, {1, kInf})}, 64, "w_scale: found NaN or Inf");
    refused({levels, scales_tensor({2, 1}, {std::nanf(""), 1})}, 64, "w_scale: found NaN or Inf");
    refused({levels, scales_tensor({2, 1}, {1, 6e33f})}, 64, "scales below 2^112");
    refused({levels, scales_tensor({2, 1}, {1, -6e33f})}, 64, "scales below 2^112");
}

TEST(loader_takes_int4_for_products_alone) {
    Opened opened({levels_tensor("w", {2, 16}, counting_bytes(32)), scales_tensor({2, 1}, {1, 1})});
    CHECK_ERROR(opened.loader().table("w", 2, 16), ErrorCode::kModelFile, "w: found uint8");
    CHECK_ERROR(opened.loader().vector("w", 32), ErrorCode::kModelFile, "w: found uint8");
    CHECK_ERROR(opened.loader(DType::kInt4, 48), ErrorCode::kInternal, "group size 48");
}
