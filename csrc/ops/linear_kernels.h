// out = activation(x W^T + bias) + residual as tiles of dot products over W as it lies in the file.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/linear_packed.h"
#include "ops/simd_types.h"

namespace lrengine {
namespace {

template <class V, class T>
void widen_row(const T* row, float factor, std::int64_t count, float* out) {
    const auto scale = V::set(factor);
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        V::store(out + i, V::mul(scale, V::load(row + i, left...)), left...);
    });
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

// Columns whose products are made before they are finished, so that both loops are long; fewer where several tiles of x
// are to find W in the second-level cache.
constexpr std::int64_t kDirectColumns = 128;
constexpr std::int64_t kDirectBytes = 256 * 1024;

// Few rows of x: W is read where it lies.
template <class V, int Rows, class T>
void direct_tile(const LinearTask& task, std::int64_t m, std::int64_t first, std::int64_t count, float* products) {
    constexpr int kCols = tile_cols<V, Rows>();
    const std::int64_t bytes = task.cols * static_cast<std::int64_t>(sizeof(T));
    using Near = BytesAhead<kCols, V::kWidth* static_cast<std::int64_t>(sizeof(T))>;
    const T* weight = static_cast<const T*>(task.weight);
    const T* rows[kCols];
    for (std::int64_t n = 0; n < count; n += kCols) {
        tile_rows([&](std::int64_t i) { return weight + (first + i) * task.cols; }, n, count, rows);
        DotTile<V, Rows, kCols> tile;
        tile.clear();
        const auto add = [&](const auto& ahead) {
            tile.add(task.x + m * task.x_stride, task.x_stride, rows, task.cols, ahead);
        };
        if (std::is_same_v<T, float> || kCols * bytes > kFarthestAhead) {
            add(RowsAhead(bytes, kCols));
        } else {
            add(Near(rows[0], bytes, task.end - first - n <= kCols));
        }
        tile.finish(products + n, kDirectColumns);
    }
    for (int i = 0; i < Rows; ++i) finish_row<V>(task, products + i * kDirectColumns, m + i, first, count);
}

template <class V, class T>
void linear_direct(const LinearTask& task, float* scratch) {
    const std::int64_t bytes = task.cols * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t fitting = kDirectBytes / (bytes + 1) / 8 * 8 + 8;
    const std::int64_t step = all_rows(task) <= V::kTileRows || fitting > kDirectColumns ? kDirectColumns : fitting;
    for (std::int64_t first = task.begin; first < task.end; first += step) {
        const std::int64_t count = task.end - first < step ? task.end - first : step;
        for (const LinearTask* part = &task; part != nullptr; part = part->next) {
            for_even_row_tiles<V::kTileRows>(part->rows, [&](std::int64_t m, auto tile) {
                direct_tile<V, decltype(tile)::value, T>(*part, m, first, count, scratch);
            });
        }
    }
}

// Both ways give the same bits; with more than four tiles of x it pays to copy W in order (measured).
template <class V>
bool is_packed(std::int64_t rows) {
    return rows > 4 * V::kTileRows;
}

template <class V>
std::int64_t linear_scratch(std::int64_t rows, std::int64_t cols) {
    return is_packed<V>(rows) ? PackedScratch<V>::floats(rows, cols) : V::kTileRows * kDirectColumns;
}

template <class V, class T>
void linear_of(const LinearTask& task, float* scratch) {
    if (is_packed<V>(all_rows(task))) {
        linear_packed<V, T>(task, scratch);
    } else {
        linear_direct<V, T>(task, scratch);
    }
}

template <class V>
void linear(const LinearTask& task, float* scratch) {
    switch (task.dtype) {
        case DType::kBFloat16:
            return linear_of<V, BFloat16>(task, scratch);
        case DType::kFloat16:
            return linear_of<V, Float16>(task, scratch);
        default:  // float32: linear_rounded() has the others
            return linear_of<V, float>(task, scratch);
    }
}

}  // namespace
}  // namespace lrengine
