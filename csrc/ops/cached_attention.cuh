// The kernels of cached attention; cached_attention_cuda.cu says how they share out the work.
#pragma once

#include "cuda/packs.cuh"

namespace lrengine::cuda {

constexpr int kMaxHeadDim = kPack * kWarp;
constexpr int kMaxGroup = 4;  // queries of one block
constexpr int kMaxWarps = 16;
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

// exp(value - largest), 0 for the -inf of what has seen no key.
__device__ __forceinline__ float relative_weight(float value, float largest) {
    return value == -INFINITY ? 0.0f : expf(value - largest);
}

// The running softmax of kGroup queries over some keys, at eight columns.
template <int kGroup>
struct PartialAttention {
    float largest[kGroup];
    float sum[kGroup];
    float out[kGroup][kPack];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int g = 0; g < kGroup; ++g) {
            largest[g] = -INFINITY;
            sum[g] = 0.0f;
#pragma unroll
            for (int c = 0; c < kPack; ++c) out[g][c] = 0.0f;
        }
    }

    // Takes in kKeys scores of query g at once; scores become weights. -inf is a key that is not there.
    template <int kKeys>
    __device__ __forceinline__ void weigh(int g, float (&scores)[kKeys]) {
        float highest = largest[g];
#pragma unroll
        for (int i = 0; i < kKeys; ++i) highest = fmaxf(highest, scores[i]);
        const float shrink = relative_weight(largest[g], highest);
        largest[g] = highest;
        sum[g] *= shrink;
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            scores[i] = relative_weight(scores[i], highest);
            sum[g] += scores[i];
        }
#pragma unroll
        for (int c = 0; c < kPack; ++c) out[g][c] *= shrink;
    }

    // With the lane `offset` away, which has the same columns of other keys.
    __device__ __forceinline__ void merge_with_lane(int offset) {
#pragma unroll
        for (int g = 0; g < kGroup; ++g) {
            const float other = __shfl_xor_sync(kAllLanes, largest[g], offset);
            const float highest = fmaxf(largest[g], other);
            const float own_part = relative_weight(largest[g], highest), other_part = relative_weight(other, highest);
            largest[g] = highest;
            sum[g] = sum[g] * own_part + __shfl_xor_sync(kAllLanes, sum[g], offset) * other_part;
#pragma unroll
            for (int c = 0; c < kPack; ++c) {
                out[g][c] = out[g][c] * own_part + __shfl_xor_sync(kAllLanes, out[g][c], offset) * other_part;
            }
        }
    }
};

// The merged result of `count` parts for one query, at one column: parts lie `stride` floats apart, each {largest, sum,
// out [d]}.
struct MergedColumn {
    float largest, sum, out;
};

__device__ __forceinline__ MergedColumn merge_parts(const float* parts, int count, int stride, int col) {
    MergedColumn merged{-INFINITY, 0.0f, 0.0f};
    for (int i = 0; i < count; ++i) merged.largest = fmaxf(merged.largest, parts[i * stride]);
    for (int i = 0; i < count; ++i) {
        const float* part = parts + i * stride;
        const float weight = relative_weight(part[0], merged.largest);
        merged.sum += weight * part[1];
        merged.out += weight * part[2 + col];
    }
    return merged;
}

// 0 where there was no key.
__device__ __forceinline__ float normalized(const MergedColumn& merged) {
    return merged.sum == 0.0f ? 0.0f : merged.out / merged.sum;
}

// Merges lanes and warps, and writes the block's share of its `queries` queries, or, if it is the only one, the result.
template <int kGroup>
__device__ __forceinline__ void merge_block(const CachedAttentionJob& job, PartialAttention<kGroup>& attention,
                                            std::int64_t row, int first_head, int queries) {
    LRENGINE_DYNAMIC_SHARED(float, parts);
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
    const int warps = static_cast<int>(blockDim.y), share = static_cast<int>(blockIdx.z);
    const int head_dim = job.head_dim, own_col = lane % job.lanes_per_key * kPack;
    for (int offset = job.lanes_per_key; offset < kWarp; offset *= 2) attention.merge_with_lane(offset);
    const int part_floats = head_dim + 2;
    if (lane < job.lanes_per_key) {
#pragma unroll
        for (int g = 0; g < kGroup; ++g) {
            float* part = parts + (warp * kGroup + g) * part_floats;
            if (lane == 0) {
                part[0] = attention.largest[g];
                part[1] = attention.sum[g];
            }
#pragma unroll
            for (int c = 0; c < kPack; ++c) {
                if (own_col + c < head_dim) part[2 + own_col + c] = attention.out[g][c];
            }
        }
    }
    __syncthreads();
    for (int item = warp * kWarp + lane; item < queries * head_dim; item += warps * kWarp) {
        const int g = item / head_dim, col = item % head_dim, head = first_head + g;
        const MergedColumn merged = merge_parts(parts + g * part_floats, warps, kGroup * part_floats, col);
        if (job.shares == 1) {
            store(job.out, row, static_cast<std::int64_t>(head) * head_dim + col, normalized(merged));
            continue;
        }
        float* part = job.partial + ((row * job.heads + head) * job.shares + share) * part_floats;
        if (col == 0) {
            part[0] = merged.largest;
            part[1] = merged.sum;
        }
        part[2 + col] = merged.out;
    }
}

// A block: row and part of the query group, key head, share of the keys.
template <Elements kElements, int kGroup>
__global__ void __launch_bounds__(kWarp* kMaxWarps) cached_attention_kernel(CachedAttentionJob job) {
    constexpr int kKeys = kKeysInFlight<kElements>;
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
    const int warps = static_cast<int>(blockDim.y);
    const int keys_per_warp = kWarp / job.lanes_per_key;
    const int own_key = warp * keys_per_warp + lane / job.lanes_per_key;
    const int own_col = lane % job.lanes_per_key * kPack;
    const std::int64_t row = static_cast<int>(blockIdx.x) / job.group_blocks;
    const int kv_head = static_cast<int>(blockIdx.y), share = static_cast<int>(blockIdx.z);
    const int first_in_group = static_cast<int>(blockIdx.x) % job.group_blocks * kGroup;
    const int queries = min(kGroup, job.group - first_in_group);
    const int first_head = kv_head * job.group + first_in_group;
    const int head_dim = job.head_dim;
    const std::int64_t kv_begin = static_cast<std::int64_t>(kv_head) * head_dim, kv_end = kv_begin + head_dim;
    const std::int64_t kv_col = kv_begin + own_col;
    wait_for_previous_kernels();
    allow_next_kernel();

    float q[kGroup][kPack];
#pragma unroll
    for (int g = 0; g < kGroup; ++g) {
        const std::int64_t begin = static_cast<std::int64_t>(first_head + min(g, queries - 1)) * head_dim;
        load_pack<kPacksAreWhole<kElements>>(job.q, row, begin + own_col, begin + head_dim, q[g]);
#pragma unroll
        for (int c = 0; c < kPack; ++c) q[g][c] *= job.scale;
    }
    PartialAttention<kGroup> attention;
    attention.clear();

    // Steps of the block, `step` keys each, go to the shares in turn.
    const int length = job.length[row], step = keys_per_warp * warps * kKeys;
    const std::int64_t begin = job.table != nullptr ? 0 : job.begin[row];
    const std::int32_t* slots = job.table != nullptr ? job.table + row * job.capacity : nullptr;
    for (int first = share * step; first < length; first += job.shares * step) {
        RawPack<kElements> keys[kKeys], values[kKeys];
        std::int64_t at[kKeys];
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            const int t = first + i * keys_per_warp * warps + own_key;
            at[i] = -1;
            if (t < length) at[i] = slots != nullptr ? slots[t] * job.capacity + t : begin + t;
        }
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            const bool there = at[i] >= 0 && at[i] < job.key_rows;
            keys[i] = {};
            values[i] = {};
            if (there) keys[i] = load_raw<kElements>(job.k, at[i], kv_col, kv_end);
            if (there) values[i] = load_raw<kElements>(job.v, at[i], kv_col, kv_end);
        }
        float scores[kGroup][kKeys];
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            float key[kPack];
            unpack(keys[i], type_of<kElements>(job.k.matrix), key);
#pragma unroll
            for (int g = 0; g < kGroup; ++g) {
                scores[g][i] = 0.0f;
#pragma unroll
                for (int c = 0; c < kPack; ++c) scores[g][i] += q[g][c] * key[c];
            }
        }
        for (int offset = job.lanes_per_key / 2; offset > 0; offset /= 2) {
#pragma unroll
            for (int g = 0; g < kGroup; ++g) {
#pragma unroll
                for (int i = 0; i < kKeys; ++i) scores[g][i] += __shfl_xor_sync(kAllLanes, scores[g][i], offset);
            }
        }
#pragma unroll
        for (int g = 0; g < kGroup; ++g) {
#pragma unroll
            for (int i = 0; i < kKeys; ++i) {
                const int t = first + i * keys_per_warp * warps + own_key;
                if (at[i] >= 0 && at[i] < job.key_rows) continue;
                scores[g][i] = t < length ? NAN : -INFINITY;  // a row that is not in the cache must show
            }
            attention.weigh(g, scores[g]);
        }
#pragma unroll
        for (int i = 0; i < kKeys; ++i) {
            float value[kPack];
            unpack(values[i], type_of<kElements>(job.v.matrix), value);
#pragma unroll
            for (int g = 0; g < kGroup; ++g) {
#pragma unroll
                for (int c = 0; c < kPack; ++c) attention.out[g][c] += scores[g][i] * value[c];
            }
        }
    }

    merge_block(job, attention, row, first_head, queries);
}

}  // namespace lrengine::cuda
