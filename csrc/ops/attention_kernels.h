// Attention of some rows of one head: all scores, softmax, then the weighted sum of the values, divided by its total at
// the end.
#pragma once

#include <cstdint>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/row_kernels.h"

namespace lrengine {
namespace {

inline std::int64_t padded_scores(std::int64_t count) {
    return (count + kScorePadding - 1) / kScorePadding * kScorePadding;
}

inline std::int64_t visible_keys(const AttentionTask& task, std::int64_t row) {
    const std::int64_t visible = task.visible + row * task.visible_step;
    return visible < 0 ? 0 : visible > task.count ? task.count : visible;
}

// From `seen` products q . k to exp(score - largest), zeros behind the visible keys. Returns 1 / sum, 0 if no key is
// visible.
template <class V>
float exp_scores(const AttentionTask& task, std::int64_t row, std::int64_t seen, float* scores) {
    const std::int64_t visible = visible_keys(task, row), padded = padded_scores(seen);
    for (std::int64_t j = visible; j < padded; ++j) scores[j] = visible == 0 ? 0.0f : kNegativeInfinity;
    if (visible == 0) return 0.0f;
    const auto scale = V::set(task.scale);
    auto largest = V::set(kNegativeInfinity);
    for (std::int64_t j = 0; j < padded; j += V::kWidth) {
        auto score = V::mul(scale, V::load(scores + j));
        if (task.bias) score = V::add(score, V::load(task.bias - row + j));
        V::store(scores + j, score);
        largest = V::max(score, largest);
    }
    const auto shift = V::set(max_lanes<V>(largest));
    auto sum = V::zero();
    for (std::int64_t j = 0; j < padded; j += V::kWidth) {
        const auto value = exp_of<V>(V::sub(V::load(scores + j), shift));
        V::store(scores + j, value);
        sum = V::add(sum, value);
    }
    return 1.0f / sum_lanes<V>(sum);
}

template <class V>
void attention(const AttentionTask& task, float* scores) {
    const std::int64_t stride = padded_scores(task.count);
    for_row_tiles<V::kTileRows>(task.rows, [&](std::int64_t r, auto tile) {
        constexpr int kRows = decltype(tile)::value;
        const std::int64_t seen = visible_keys(task, r + kRows - 1);
        float* out = task.out + r * task.out_stride;
        float factors[kRows];
        dot_rows<V, kRows>(
            task.q + r * task.q_stride, task.q_stride, [&](std::int64_t j) { return task.keys[j] + task.offset; }, seen,
            task.head_dim, scores, stride);
        for (int i = 0; i < kRows; ++i) factors[i] = exp_scores<V>(task, r + i, seen, scores + i * stride);
        weighted_rows<V, kRows>(task.values, task.offset, scores, stride, seen, task.head_dim, factors, out,
                                task.out_stride);
    });
}

}  // namespace
}  // namespace lrengine
