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

// Parts that a row's statistics are summed up in, whoever sums them: the same bits with any number of rows and warps.
constexpr int kNormParts = 8;

__device__ __forceinline__ float sum_of_parts(const float* parts) {
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kNormParts; ++p) sum += parts[p];
    return sum;
}

// parts[m, p] = the sum of each row's values, or the squares of their distance from the mean that `sums`, such parts
// themselves, make (null: from 0), over every kNormParts-th 32 columns. A warp takes a part.
template <DType kType, bool kSquares>
__device__ __forceinline__ void sum_rows(int rows, int cols, int length, const float* staged, const float* sums,
                                         float* parts) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    for (int i = thread / kWarp; i < rows * kNormParts; i += warps) {
        const int m = i / kNormParts;
        const float* row = staged + m * length;
        const float mean = sums != nullptr ? sum_of_parts(sums + m * kNormParts) / static_cast<float>(cols) : 0.0f;
        float sum = 0.0f;
        for (int k = i % kNormParts * kWarp + lane; k < cols; k += kNormParts * kWarp) {
            const float value = row[place_of<kType>(k)] - mean;
            sum += kSquares ? value * value : value;
        }
        sum = warp_sum(sum);
        if (lane == 0) parts[i] = sum;
    }
}

// Whole rows in shared memory to their norm. `writes`: whether this block writes norm.out; `statistics`: 2 * kNormParts
// floats a row of shared memory.
template <DType kType>
__device__ __forceinline__ void normalize(const FusedNorm& norm, int rows, int cols, int length, bool writes,
                                          float* staged, float* statistics) {
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    const float* sums = norm.kind == NormKind::kLayerNorm ? statistics : nullptr;
    float* squares = statistics + rows * kNormParts;
    if (sums != nullptr) {
        sum_rows<kType, false>(rows, cols, length, staged, nullptr, statistics);
        __syncthreads();
    }
    sum_rows<kType, true>(rows, cols, length, staged, sums, squares);
    __syncthreads();
    const int packs = (cols + kPack - 1) / kPack;
    for (int i = thread; i < rows * packs; i += threads) {
        const int m = i / packs, k = i % packs * kPack;
        float weight[kPack], bias[kPack] = {}, values[kPack];
        load_pack(norm.weight, 0, k, cols, weight);  // zeros behind the last column: so are the values
        if (norm.bias.matrix.data != nullptr) load_pack(norm.bias, 0, k, cols, bias);
        float* low = staged + m * length + place_of<kType>(k);
        float* high = staged + m * length + place_of<kType>(k + 4);
        const float mean = sums != nullptr ? sum_of_parts(sums + m * kNormParts) / static_cast<float>(cols) : 0.0f;
        const float variance = sum_of_parts(squares + m * kNormParts) / static_cast<float>(cols);
        const float factor = 1.0f / sqrtf(variance + norm.eps);
#pragma unroll
        for (int j = 0; j < kPack; ++j) {
            values[j] = ((j < 4 ? low[j] : high[j - 4]) - mean) * factor * weight[j] + bias[j];
        }
        store_staged(low, high, values);
        if (writes) store_pack(norm.out, m, k, cols, values);
    }
}

}  // namespace lrengine::cuda
