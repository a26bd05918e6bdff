// The two products everything is made of: dot products of rows, and weighted sums of rows. Register tiles over both
// sides.
#pragma once

#include <cstdint>

namespace lrengine {
namespace {

// out[m * out_stride + n] = x_m . w_n for Rows x Cols pairs. One accumulator a pair, whatever the tile: see
// cpu_kernels.h.
template <class V, int Rows, int Cols, class T>
void dot_tile(const float* x, std::int64_t x_stride, const T* const* w, std::int64_t size, float* out,
              std::int64_t out_stride) {
    static_assert(Cols % 4 == 0);
    using Float = typename V::Float;
    Float sum[Rows][Cols];
    Float input[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
        for (int n = 0; n < Cols; ++n) sum[m][n] = V::zero();
    }
    std::int64_t k = 0;
    for (; k + V::kWidth <= size; k += V::kWidth) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) input[m] = V::load(x + m * x_stride + k);
#pragma GCC unroll 8
        for (int n = 0; n < Cols; ++n) {
            const Float weight = V::load(w[n] + k);
#pragma GCC unroll 8
            for (int m = 0; m < Rows; ++m) sum[m][n] = V::fma(input[m], weight, sum[m][n]);
        }
    }
    if (k < size) {
        const std::int64_t left = size - k;
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) input[m] = V::load(x + m * x_stride + k, left);
#pragma GCC unroll 8
        for (int n = 0; n < Cols; ++n) {
            const Float weight = V::load(w[n] + k, left);
#pragma GCC unroll 8
            for (int m = 0; m < Rows; ++m) sum[m][n] = V::fma(input[m], weight, sum[m][n]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
        for (int n = 0; n < Cols; n += 4) {
            V::sum4(out + m * out_stride + n, sum[m][n], sum[m][n + 1], sum[m][n + 2], sum[m][n + 3]);
        }
    }
}

// Enough dot products in flight to hide the latency of the sum when there are few rows.
template <class V, int Rows>
constexpr int tile_cols() {
    return Rows * 4 < 2 * V::kTileRows ? 8 : 4;
}

// out[m * out_stride + n] = x_m . w_n for n < count, where row_of(n) points at w_n. `out` has room for a multiple of 8
// columns.
template <class V, int Rows, class RowOf>
void dot_rows(const float* x, std::int64_t x_stride, RowOf row_of, std::int64_t count, std::int64_t size, float* out,
              std::int64_t out_stride) {
    constexpr int kCols = tile_cols<V, Rows>();
    decltype(row_of(0)) w[kCols];
    for (std::int64_t n = 0; n < count; n += kCols) {
        // A row that is missing is the last one once more; nobody looks at its products.
        for (int i = 0; i < kCols; ++i) w[i] = row_of(n + i < count ? n + i : count - 1);
        dot_tile<V, Rows, kCols>(x, x_stride, w, size, out + n, out_stride);
    }
}

template <int N>
struct TileRows {
    static constexpr int value = N;
};

// visit(first, TileRows<N>) over [0, rows) in tiles of at most Largest rows.
template <int Largest, class Visit>
void for_row_tiles(std::int64_t rows, Visit visit, std::int64_t first = 0) {
    for (; rows - first >= Largest; first += Largest) visit(first, TileRows<Largest>{});
    if constexpr (Largest > 1) {
        if (first < rows) for_row_tiles<Largest - 1>(rows, visit, first);
    }
}

// out_m = factors[m] * sum_j weights[m * weights_stride + j] * rows[j] for Vectors vectors of columns from `column` of
// the rows, j in order. With `last` > 0 the one vector has that many columns.
template <class V, int Rows, int Vectors>
void weighted_tile(const float* const* rows, std::int64_t column, const float* weights, std::int64_t weights_stride,
                   std::int64_t count, const float* factors, float* out, std::int64_t out_stride,
                   std::int64_t last = 0) {
    using Float = typename V::Float;
    Float sum[Rows][Vectors];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) sum[m][i] = V::zero();
    }
    for (std::int64_t j = 0; j < count; ++j) {
        Float value[Vectors];
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) {
            const float* source = rows[j] + column + i * V::kWidth;
            value[i] = last > 0 ? V::load(source, last) : V::load(source);
        }
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
            const Float weight = V::set(weights[m * weights_stride + j]);
#pragma GCC unroll 8
            for (int i = 0; i < Vectors; ++i) sum[m][i] = V::fma(weight, value[i], sum[m][i]);
        }
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
        const Float factor = V::set(factors[m]);
#pragma GCC unroll 8
        for (int i = 0; i < Vectors; ++i) {
            float* target = out + m * out_stride + i * V::kWidth;
            const Float result = V::mul(sum[m][i], factor);
            if (last > 0) {
                V::store(target, result, last);
            } else {
                V::store(target, result);
            }
        }
    }
}

// out_m = factors[m] * sum_j weights[m * weights_stride + j] * rows[j], for columns [offset, offset + size) of the
// rows.
template <class V, int Rows>
void weighted_rows(const float* const* rows, std::int64_t offset, const float* weights, std::int64_t weights_stride,
                   std::int64_t count, std::int64_t size, const float* factors, float* out, std::int64_t out_stride) {
    constexpr std::int64_t kWide = 4 * V::kWidth;
    std::int64_t c = 0;
    for (; c + kWide <= size; c += kWide) {
        weighted_tile<V, Rows, 4>(rows, offset + c, weights, weights_stride, count, factors, out + c, out_stride);
    }
    for (; c + V::kWidth <= size; c += V::kWidth) {
        weighted_tile<V, Rows, 1>(rows, offset + c, weights, weights_stride, count, factors, out + c, out_stride);
    }
    if (c < size) {
        weighted_tile<V, Rows, 1>(rows, offset + c, weights, weights_stride, count, factors, out + c, out_stride,
                                  size - c);
    }
}

}  // namespace
}  // namespace lrengine
