// How cached attention is cut into the work of blocks, on the host: what the kernels of cached_attention.cuh read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/packs.cuh"
#include "ops/attention.h"

namespace lrengine::cuda {

constexpr int kMaxHeadDim = kPack * kWarp;
constexpr int kMaxGroup = 4;            // queries of one block
constexpr int kMaxAttentionWarps = 16;  // of a block
constexpr std::int64_t kMaxShares = 16;

struct CachedAttentionJob {
    PackedView q, k, v;
    MatrixView out;
    const std::int32_t *begin, *length, *table;
    std::int64_t capacity;
    std::int64_t key_rows;
    float* partial;  // [M, H, shares, 2 + d]: largest, sum, out; null with one share
    int heads;
    int group;  // query heads of a key head
    int group_blocks;
    int head_dim;
    int lanes_per_key;
    int shares;
    float scale;
};

// Keys whose loads a lane has in flight.
template <Elements kElements>
constexpr int kKeysInFlight = kIs16Bit<kElements>               ? 4
                              : kElements == Elements::kFloat32 ? 2
                                                                : 1;

// Shared memory of a block: largest, sum and out of every warp's queries.
constexpr std::size_t merge_floats(int warps, int group, int head_dim) {
    return static_cast<std::size_t>(warps) * static_cast<std::size_t>(group) * static_cast<std::size_t>(head_dim + 2);
}

// How the keys are shared out.
struct AttentionPartition {
    int group;   // queries that a block takes: 1, 2 or 4
    int warps;   // of a block
    int shares;  // of a row and key head
};

// Throws Error(kInternal) for shapes that do not fit attention.h, Error(kUnsupported) for what the kernels cannot do.
void check_cached_attention(const CachedAttentionArgs& args);

// A type if keys and values have it, and heads consist of whole packs.
Elements common_elements_of(const CachedAttentionArgs& args);

// Keys that a warp takes at a time.
std::int64_t keys_per_warp(const CachedAttentionArgs& args, Elements elements);

// Keys that a row can have.
inline std::int64_t most_keys(const CachedAttentionArgs& args) {
    if (args.longest > 0) return args.longest;
    return args.capacity > 0 ? args.capacity : args.k.rows;
}

// `partial` is left null.
CachedAttentionJob job_of(const CachedAttentionArgs& args, const AttentionPartition& partition);

// Floats of `partial` with several shares.
inline std::int64_t partial_floats(const CachedAttentionJob& job, std::int64_t rows) {
    return rows * job.heads * job.shares * (job.head_dim + 2);
}

}  // namespace lrengine::cuda
