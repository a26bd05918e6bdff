// The inner loops of the CPU backend: one table an instruction set, all built from the same templates (*_kernels.h).
// A kernel runs in one thread, allocates nothing and checks nothing.
//
// Order of summation: a dot product over K has one vector accumulator, lane i summing elements i, i + width, ..., and
// then a fixed tree over the lanes; a weighted sum of rows adds them in their order. Neither depends on how many are
// computed together, which is what makes results equal alone and in any batch. The tables differ in the lane count, so
// in the last bits.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "ops/activation.h"
#include "ops/norm.h"

namespace lrengine {

struct RoundedRows;

// Columns [begin, end) of out = activation(x W^T + bias) + residual for all `rows` rows of x.
struct LinearTask {
    const float* x = nullptr;
    std::int64_t x_stride = 0;
    std::int64_t rows = 0;
    const void* weight = nullptr;  // row 0 of W
    DType dtype = DType::kFloat32;
    std::int64_t cols = 0;                        // K
    const float* scales = nullptr;                // int8 only
    const std::uint16_t* group_scales = nullptr;  // int4 only
    std::int64_t group_size = 0;                  // int4 only
    const float* bias = nullptr;
    const float* residual = nullptr;
    std::int64_t residual_stride = 0;
    float* out = nullptr;
    std::int64_t out_stride = 0;
    Activation activation = Activation::kNone;
    std::int64_t begin = 0;
    std::int64_t end = 0;
    const RoundedRows* rounded = nullptr;  // x as integers: linear_rounded() reads these
    RoundedRows* rounded_out = nullptr;  // in place of `out`: the outputs as integers, for the product that reads them
    LinearTask* next = nullptr;          // more rows for the same weight and columns, with everything else of their own
};

// Rows of a task and of those behind it.
inline std::int64_t all_rows(const LinearTask& task) {
    std::int64_t rows = 0;
    for (const LinearTask* part = &task; part != nullptr; part = part->next) rows += part->rows;
    return rows;
}

// Columns of x that are rounded with one scale.
inline constexpr std::int64_t kRoundedGroup = 32;

inline std::int64_t rounded_groups(std::int64_t cols) { return (cols + kRoundedGroup - 1) / kRoundedGroup; }

// Rows of x as integers of at most 127, a scale a group of columns, in an order of the instruction set's own
// (rounded_kernels.h).
struct RoundedRows {
    const float* x = nullptr;
    std::int64_t x_stride = 0;
    std::int64_t rows = 0;
    std::int64_t cols = 0;           // K
    void* values = nullptr;          // rounded_bytes(rows, cols), 64-byte aligned
    float* scales = nullptr;         // [rows, groups]
    std::int32_t* starts = nullptr;  // [rows, groups]: what takes away what the instruction set adds to weights
};

// Some queries of one head against the same keys. keys[j] + offset is the head's part of key j. Row r sees the first
// visible + r * visible_step keys (step 0 or 1), at least none and at most `count`.
struct AttentionTask {
    const float* q = nullptr;
    std::int64_t q_stride = 0;
    std::int64_t rows = 0;
    const float* const* keys = nullptr;
    const float* const* values = nullptr;
    std::int64_t offset = 0;
    std::int64_t count = 0;
    std::int64_t visible = 0;
    std::int64_t visible_step = 0;
    float scale = 1.0f;
    const float* bias =
        nullptr;  // of row 0 and key 0, readable for kScorePadding more; the entry for (r, j) is bias[j - r]
    float* out = nullptr;
    std::int64_t out_stride = 0;
    std::int64_t head_dim = 0;
};

// Rows of scores are padded to a multiple of this many floats.
inline constexpr std::int64_t kScorePadding = 16;

struct CpuKernels {
    // Floats of scratch that linear() needs for this many rows and columns.
    std::int64_t (*linear_scratch)(std::int64_t rows, std::int64_t cols);
    void (*linear)(const LinearTask& task, float* scratch);

    // Integer products, of int8 and int4 weights alone, which linear() does not know. Rows are rounded by tiles of
    // rounded_tile_rows, tiles [begin, end) a call; `row` is room for rounded_bytes(1, cols). Then linear_rounded() is
    // linear() on task.rounded, with its scratch in bytes; where rounds_outputs(outputs) of a weight, it can write
    // task.rounded_out.
    std::int64_t rounded_tile_rows;
    std::int64_t (*rounded_bytes)(std::int64_t rows, std::int64_t cols);
    void (*round_rows)(const RoundedRows& rows, std::int64_t begin, std::int64_t end, void* row);
    std::int64_t (*rounded_scratch)(std::int64_t cols);
    bool (*rounds_outputs)(std::int64_t outputs);
    void (*linear_rounded)(const LinearTask& task, void* scratch);

    std::int64_t tile_rows;  // rows that attention() and linear() work on together
    // scores: tile_rows * `count` rounded up to kScorePadding floats.
    void (*attention)(const AttentionTask& task, float* scores);
    // In place, numerators divided by their sum.
    void (*softmax)(float* row, std::int64_t count);

    void (*norm)(NormKind kind, const float* x, const float* weight, const float* bias, float eps, std::int64_t count,
                 float* out);
    // out = activation(gate) * up
    void (*gated)(Activation activation, const float* gate, const float* up, std::int64_t count, float* out);
    void (*add)(const float* a, const float* b, std::int64_t count, float* out);
    // out = factor * row, from any weight type.
    void (*widen)(DType dtype, const void* row, float factor, std::int64_t count, float* out);
    // out[i] = x . rows[i]
    void (*dots)(const float* x, const float* const* rows, std::int64_t count, std::int64_t size, float* out);
    // out = sum_i weights[i] * rows[i]
    void (*weighted_sum)(const float* const* rows, const float* weights, std::int64_t count, std::int64_t size,
                         float* out);

    // The first index in [begin, end) with x > threshold, or end. NaN is not greater than anything.
    std::int64_t (*find_greater)(const float* x, std::int64_t begin, std::int64_t end, float threshold);
    // Of `count` > 0 numbers, NaN taken as -inf: the largest, and the sum of exp(x - largest) (0 if that is infinite).
    void (*exp_sum)(const float* x, std::int64_t count, float* largest, float* sum);
};

const CpuKernels& portable_kernels();
// x86-64 only. The two with VNNI differ from those without in the integer products alone.
const CpuKernels& avx2_kernels();
const CpuKernels& avx2_vnni_kernels();
const CpuKernels& avx512_kernels();
const CpuKernels& avx512_vnni_kernels();
const CpuKernels& neon_kernels();  // AArch64 only

}  // namespace lrengine
