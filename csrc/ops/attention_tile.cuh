// The arithmetic of attention on tiles in shared memory: scores of a warp's queries with 32 keys, the running softmax,
// and the weighted sum of 32 values. In float32 on the CUDA cores; a version for tensor cores replaces `score` and
// `add_values`, and keeps the rest.
#pragma once

#include "cuda/device.cuh"

namespace lrengine::cuda {

constexpr int kKeyTile = kWarp;  // a lane a key

// Floats between the rows of a tile: a multiple of 4 for float4 loads, an odd one so that the float4 of 8 rows lie in
// different banks.
template <int kColumns>
constexpr int kTileStride = kColumns + 4;

// kQueries queries of one warp. Lane j scores key j; for the sum, lane c owns columns c, c + 32, ...
template <int kQueries, int kColumnsPerLane>
struct WarpAttention {
    static constexpr int kColumns = kColumnsPerLane * kWarp;
    static constexpr int kStride = kTileStride<kColumns>;

    float largest[kQueries];  // of the scores so far; -inf before the first visible key
    float sum[kQueries];      // this lane's part
    float out[kQueries][kColumnsPerLane];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
            largest[i] = -INFINITY;
            sum[i] = 0.0f;
#pragma unroll
            for (int c = 0; c < kColumnsPerLane; ++c) out[i][c] = 0.0f;
        }
    }

    // scores[i] = queries[i] . keys[lane]; `columns` is a multiple of 4.
    __device__ __forceinline__ static void score(const float* queries, const float* keys, int columns,
                                                 float (&scores)[kQueries]) {
        const float* key = keys + static_cast<int>(threadIdx.x) * kStride;
#pragma unroll
        for (int i = 0; i < kQueries; ++i) scores[i] = 0.0f;
#pragma unroll 2
        for (int c = 0; c < columns; c += 4) {
            const float4 k = *reinterpret_cast<const float4*>(key + c);
#pragma unroll
            for (int i = 0; i < kQueries; ++i) {
                const float4 q = *reinterpret_cast<const float4*>(queries + i * kStride + c);
                scores[i] += q.x * k.x + q.y * k.y + q.z * k.z + q.w * k.w;
            }
        }
    }

    // Weights of these scores relative to the largest so far, and what was summed before shrunk to it. A key that is
    // not visible has weight 0.
    __device__ __forceinline__ void weigh(const float (&scores)[kQueries], const bool (&visible)[kQueries],
                                          float* weights) {
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
            const float highest = fmaxf(largest[i], warp_max(visible[i] ? scores[i] : -INFINITY));
            const float shift = highest == -INFINITY ? 0.0f : highest;
            const float shrink = expf(largest[i] - shift);
            const float weight = visible[i] ? expf(scores[i] - shift) : 0.0f;
            largest[i] = highest;
            sum[i] = sum[i] * shrink + weight;
#pragma unroll
            for (int c = 0; c < kColumnsPerLane; ++c) out[i][c] *= shrink;
            weights[i * kKeyTile + static_cast<int>(threadIdx.x)] = weight;
        }
        __syncwarp();
    }

    // out += weights [kQueries, 32] values [32, columns].
    __device__ __forceinline__ void add_values(const float* weights, const float* values) {
        const float* column = values + static_cast<int>(threadIdx.x);
#pragma unroll 2
        for (int j = 0; j < kKeyTile; j += 4) {
            float value[4][kColumnsPerLane];
#pragma unroll
            for (int part = 0; part < 4; ++part) {
#pragma unroll
                for (int c = 0; c < kColumnsPerLane; ++c) value[part][c] = column[(j + part) * kStride + c * kWarp];
            }
#pragma unroll
            for (int i = 0; i < kQueries; ++i) {
                const float4 w = *reinterpret_cast<const float4*>(weights + i * kKeyTile + j);
#pragma unroll
                for (int c = 0; c < kColumnsPerLane; ++c) {
                    out[i][c] += w.x * value[0][c] + w.y * value[1][c] + w.z * value[2][c] + w.w * value[3][c];
                }
            }
        }
        __syncwarp();
    }
};

}  // namespace lrengine::cuda
