// x of a product of few rows in shared memory: as it is, or its norm.
#pragma once

#include "cuda/packs.cuh"
#include "ops/few_rows_plan.h"

namespace lrengine::cuda {

// Where column k of a stretch lies in shared memory: lane l reads its quads q at 128 q + 4 l of each chunk.
template <DType kType>
__device__ __forceinline__ int place_of(int k) {
    constexpr int kChunk = per_chunk(kType), kLoad = per_load(kType);
    const int within = k % kChunk;
    return k - within + within % kLoad / 4 * (4 * kWarp) + within / kLoad * 4 + within % 4;
}

__device__ __forceinline__ void store_staged(float* low, float* high, const float (&values)[kPack]) {
    *reinterpret_cast<float4*>(low) = {values[0], values[1], values[2], values[3]};
    *reinterpret_cast<float4*>(high) = {values[4], values[5], values[6], values[7]};
}

// Columns [first, first + length) of rows of x [rows, cols], as float32; zeros where x has none of them or of `filled`
// rows.
template <DType kType, int kRows>
__device__ __forceinline__ void stage(const PackedView& x, int rows, int cols, int first, int length, float* staged,
                                      int filled = kRows) {
    constexpr int kAtOnce = 2;
    const int packs = length / kPack, total = filled * packs, threads = static_cast<int>(blockDim.x);
    for (int begin = static_cast<int>(threadIdx.x); begin < total; begin += kAtOnce * threads) {
        RawPack<Elements::kAny> raw[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int index = begin + i * threads, m = kRows == 1 ? 0 : index / packs;
            const int k = first + (index - m * packs) * kPack;
            raw[i] = {};
            if (index < total && m < rows && k < cols) raw[i] = load_raw<Elements::kAny>(x, m, k, cols);
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int index = begin + i * threads, m = kRows == 1 ? 0 : index / packs;
            const int k = (index - m * packs) * kPack;
            if (index >= total) break;
            float values[kPack];
            unpack(raw[i], x.matrix.dtype, values);
            float* row = staged + m * length;
            store_staged(row + place_of<kType>(k), row + place_of<kType>(k + 4), values);
        }
    }
}

// Whole rows in shared memory to their norm. `writes`: whether this block writes norm.out; `statistics`: 2 * rows floats
// of shared memory.
template <DType kType>
__device__ __forceinline__ void normalize(const FusedNorm& norm, int rows, int cols, int length, bool writes,
                                          float* staged, float* statistics) {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), lane = thread % kWarp;
    for (int m = thread / kWarp; m < rows; m += threads / kWarp) {
        const float* row = staged + m * length;
        float sum = 0.0f, squares = 0.0f;
        if (norm.kind == NormKind::kLayerNorm) {
            for (int k = lane; k < cols; k += kWarp) sum += row[place_of<kType>(k)];
        }
        const float mean = warp_sum(sum) / static_cast<float>(cols);
        for (int k = lane; k < cols; k += kWarp) {
            const float centred = row[place_of<kType>(k)] - mean;
            squares = fmaf(centred, centred, squares);
        }
        squares = warp_sum(squares);
        if (lane == 0) statistics[2 * m] = mean;
        if (lane == 0) statistics[2 * m + 1] = 1.0f / sqrtf(squares / static_cast<float>(cols) + norm.eps);
    }
    __syncthreads();
    const int packs = (cols + kPack - 1) / kPack;
    for (int i = thread; i < rows * packs; i += threads) {
        const int m = i / packs, k = i % packs * kPack;
        float weight[kPack], bias[kPack] = {}, values[kPack];
        load_pack(norm.weight, 0, k, cols, weight);  // zeros behind the last column: so are the values
        if (norm.bias.matrix.data != nullptr) load_pack(norm.bias, 0, k, cols, bias);
        float* low = staged + m * length + place_of<kType>(k);
        float* high = staged + m * length + place_of<kType>(k + 4);
        const float mean = statistics[2 * m], factor = statistics[2 * m + 1];
#pragma unroll
        for (int j = 0; j < kPack; ++j) {
            values[j] = ((j < 4 ? low[j] : high[j - 4]) - mean) * factor * weight[j] + bias[j];
        }
        store_staged(low, high, values);
        if (writes) store_pack(norm.out, m, k, cols, values);
    }
}

}  // namespace lrengine::cuda
