// What the ends of all decode steps share: banned tokens, and rows that grow by a token.
#pragma once

#include "cuda/device.cuh"
#include "ops/take_tokens.h"

namespace lrengine::cuda {

// Of a float32 matrix.
__device__ __forceinline__ float* floats_of(const Matrix& matrix, std::int64_t row) {
    return static_cast<float*>(matrix.data) + row * matrix.stride;
}

__device__ __forceinline__ bool contains(const std::int32_t* ids, int count, int id) {
    bool found = false;
    for (int i = 0; i < count; ++i) found |= ids[i] == id;
    return found;
}

__device__ __forceinline__ bool is_banned(const BannedTokens& banned, int generated, int id) {
    return contains(banned.suppressed, banned.suppressed_count, id) ||
           (generated < banned.min_new_tokens && contains(banned.ends, banned.end_count, id));
}

// A row that has ended may run on until its history is full.
__device__ __forceinline__ void append(const TokenHistory& history, std::int64_t m, int token) {
    if (history.tokens == nullptr || history.lengths[m] >= history.stride) return;
    history.tokens[m * history.stride + history.lengths[m]] = token;
    history.lengths[m] += 1;
}

// Row m is fed `token` next, in the next position of its slot, or in the last once more: a row that the host knows to
// have ended must not leave its slot.
__device__ __forceinline__ void grow(const StepRows& step, std::int64_t m, int token) {
    const int position = step.positions[m];
    step.generated[m] += 1;
    step.tokens[m] = token;
    if (position + 1 >= step.capacity) return;
    step.positions[m] = position + 1;
    step.cache_rows[m] += 1;
    step.lengths[m] = position + 2;
}

}  // namespace lrengine::cuda
