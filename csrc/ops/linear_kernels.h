// out = activation(x W^T + bias) + residual as tiles of dot products over W as it lies in the file.
#pragma once

#include <cstdint>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/math_kernels.h"
#include "ops/simd_types.h"

namespace lrengine {
namespace {

// Rows of W that are worked on together: as many as stay in the second-level cache as float32 while all of x passes by.
constexpr std::int64_t kBlockFloats = 64 * 1024;
constexpr std::int64_t kMostBlockRows = 128;

inline std::int64_t block_rows(std::int64_t cols) {
    const std::int64_t rows = kBlockFloats / (cols > 0 ? cols : 1) / 8 * 8;
    return rows < 8 ? 8 : rows > kMostBlockRows ? kMostBlockRows : rows;
}

// With several tiles of x it pays to convert a block of W once. The values are the same, so are the sums.
template <class V>
bool converts_block(std::int64_t rows, DType dtype) {
    return dtype != DType::kFloat32 && rows > V::kTileRows;
}

template <class V>
std::int64_t linear_scratch(std::int64_t rows, std::int64_t cols, DType dtype) {
    const std::int64_t products = V::kTileRows * kMostBlockRows;
    return products + (converts_block<V>(rows, dtype) ? block_rows(cols) * cols : 0);
}

template <class V, class T>
void widen_row(const T* row, float factor, std::int64_t count, float* out) {
    const auto scale = V::set(factor);
    std::int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) V::store(out + i, V::mul(scale, V::load(row + i)));
    if (i < count) V::store(out + i, V::mul(scale, V::load(row + i, count - i)), count - i);
}

template <class V>
void widen(DType dtype, const void* row, float factor, std::int64_t count, float* out) {
    switch (dtype) {
        case DType::kBFloat16:
            return widen_row<V>(static_cast<const BFloat16*>(row), factor, count, out);
        case DType::kFloat16:
            return widen_row<V>(static_cast<const Float16*>(row), factor, count, out);
        case DType::kInt8:
            return widen_row<V>(static_cast<const std::int8_t*>(row), factor, count, out);
        default:
            return widen_row<V>(static_cast<const float*>(row), factor, count, out);
    }
}

// From a row of dot products to outputs [first, first + count) of row m.
template <class V>
void finish_row(const LinearTask& task, const float* products, std::int64_t m, std::int64_t first, std::int64_t count) {
    float* out = task.out + m * task.out_stride + first;
    const float* residual = task.residual ? task.residual + m * task.residual_stride + first : nullptr;
    const float* bias = task.bias ? task.bias + first : nullptr;
    const float* scales = task.scales ? task.scales + first : nullptr;
    const auto finish = [&](std::int64_t i, auto... left) {
        auto value = V::load(products + i);
        if (scales) value = V::mul(value, V::load(scales + i, left...));
        if (bias) value = V::add(value, V::load(bias + i, left...));
        value = activate<V>(task.activation, value);
        if (residual) value = V::add(value, V::load(residual + i, left...));
        V::store(out + i, value, left...);
    };
    std::int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) finish(i);
    if (i < count) finish(i, count - i);
}

// Outputs [first, first + count) of all rows; `w` is row `first` of W.
template <class V, class T>
void linear_block(const LinearTask& task, const T* w, std::int64_t first, std::int64_t count, float* products) {
    const auto row_of = [&](std::int64_t n) { return w + n * task.cols; };
    for_row_tiles<V::kTileRows>(task.rows, [&](std::int64_t m, auto tile) {
        constexpr int kRows = decltype(tile)::value;
        dot_rows<V, kRows>(task.x + m * task.x_stride, task.x_stride, row_of, count, task.cols, products,
                           kMostBlockRows);
        for (int i = 0; i < kRows; ++i) finish_row<V>(task, products + i * kMostBlockRows, m + i, first, count);
    });
}

template <class V, class T>
void linear_of(const LinearTask& task, float* scratch) {
    const bool convert = converts_block<V>(task.rows, task.dtype);
    const std::int64_t step = task.rows > V::kTileRows ? block_rows(task.cols) : kMostBlockRows;
    float* products = scratch;
    float* converted = scratch + V::kTileRows * kMostBlockRows;
    for (std::int64_t first = task.begin; first < task.end; first += step) {
        const std::int64_t count = task.end - first < step ? task.end - first : step;
        const T* w = static_cast<const T*>(task.weight) + first * task.cols;
        if (convert) {
            widen_row<V>(w, 1.0f, count * task.cols, converted);
            linear_block<V>(task, converted, first, count, products);
        } else {
            linear_block<V>(task, w, first, count, products);
        }
    }
}

template <class V>
void linear(const LinearTask& task, float* scratch) {
    switch (task.dtype) {
        case DType::kBFloat16:
            return linear_of<V, BFloat16>(task, scratch);
        case DType::kFloat16:
            return linear_of<V, Float16>(task, scratch);
        case DType::kInt8:
            return linear_of<V, std::int8_t>(task, scratch);
        default:
            return linear_of<V, float>(task, scratch);
    }
}

}  // namespace
}  // namespace lrengine
