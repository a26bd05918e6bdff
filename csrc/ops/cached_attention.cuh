// The work of a block in cached attention; cached_attention_cuda.cu says how it is shared out.
#pragma once

#include "ops/cached_attention_plan.h"

namespace lrengine::cuda {

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

// What a block does at a time: part of the query group of a row and key head, for a share of the keys.
struct AttentionItem {
    std::int64_t row;
    int group_block, kv_head, share;
};

// A thread's place in its block.
struct AttentionThread {
    int lane, warp, warps;
};

// Merges lanes and warps, and writes the item's share of its `queries` queries, or, if it is the only one, the result.
// `parts`: merge_floats() of shared memory.
template <int kGroup>
__device__ __forceinline__ void merge_block(const CachedAttentionJob& job, PartialAttention<kGroup>& attention,
                                            const AttentionItem& item, const AttentionThread& thread, int first_head,
                                            int queries, float* parts) {
    const auto [lane, warp, warps] = thread;
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
    for (int i = warp * kWarp + lane; i < queries * head_dim; i += warps * kWarp) {
        const int g = i / head_dim, col = i % head_dim, head = first_head + g;
        const MergedColumn merged = merge_parts(parts + g * part_floats, warps, kGroup * part_floats, col);
        if (job.shares == 1) {
            store(job.out, item.row, static_cast<std::int64_t>(head) * head_dim + col, normalized(merged));
            continue;
        }
        float* part = job.partial + ((item.row * job.heads + head) * job.shares + item.share) * part_floats;
        if (col == 0) {
            part[0] = merged.largest;
            part[1] = merged.sum;
        }
        part[2 + col] = merged.out;
    }
}

// Every thread of the block comes along; `parts`: merge_floats() of shared memory.
template <Elements kElements, int kGroup>
__device__ __forceinline__ void attend(const CachedAttentionJob& job, const AttentionItem& item,
                                       const AttentionThread& thread, float* parts) {
    constexpr int kKeys = kKeysInFlight<kElements>;
    const auto [lane, warp, warps] = thread;
    const int keys_per_warp = kWarp / job.lanes_per_key;
    const int own_key = warp * keys_per_warp + lane / job.lanes_per_key;
    const int own_col = lane % job.lanes_per_key * kPack;
    const std::int64_t row = item.row;
    const int first_in_group = item.group_block * kGroup;
    const int queries = min(kGroup, job.group - first_in_group);
    const int first_head = item.kv_head * job.group + first_in_group;
    const int head_dim = job.head_dim;
    const std::int64_t kv_begin = static_cast<std::int64_t>(item.kv_head) * head_dim, kv_end = kv_begin + head_dim;
    const std::int64_t kv_col = kv_begin + own_col;

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
    for (int first = item.share * step; first < length; first += job.shares * step) {
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

    merge_block(job, attention, item, thread, first_head, queries, parts);
}

}  // namespace lrengine::cuda
