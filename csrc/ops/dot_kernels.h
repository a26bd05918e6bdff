// The two products everything is made of: dot products of rows, and weighted sums of rows. Register tiles over both
// sides.
#pragma once

#include <cstdint>

namespace lrengine {
namespace {

constexpr std::int64_t kLine = 64;  // of a cache
// Bytes of a tile of W up to which the one behind it is asked for in the order of memory.
constexpr std::int64_t kFarthestAhead = 128 * 1024;
// How far on in the same rows is enough to wait for memory.
constexpr std::int64_t kInRow = 1024;

// What a tile of W's rows asks for while it reads them: called with where it reads, and which byte of which row this
// is. Nothing:
struct NothingAhead {
    void operator()(const void*, std::int64_t, std::int64_t) const {}
};

// The same place in the rows of the next tile, or further on in these where rows are long. Bytes: what is fetched
// farther ahead would be forgotten before it is used.
class RowsAhead {
public:
    RowsAhead(std::int64_t row_bytes, std::int64_t tile) {
        constexpr std::int64_t kFarthest = 32 * 1024;
        distance_ = row_bytes * tile <= kFarthest ? row_bytes * tile : kInRow;
    }

    void operator()(const void* place, std::int64_t, std::int64_t) const {
        __builtin_prefetch(static_cast<const char*>(place) + distance_);
    }

private:
    std::int64_t distance_;
};

// The next tile of Rows rows in the order of memory, and not in that of use: once a line, where Block bytes of each row
// are read at a time. A fifteenth faster for bfloat16, where memory is busy; a tenth slower for float32. After the last
// tile nothing new. For tiles up to kFarthestAhead.
template <int Rows, std::int64_t Block>
class BytesAhead {
public:
    BytesAhead(const void* tile, std::int64_t row_bytes, bool is_last)
        : base_(static_cast<const char*>(tile) + (is_last ? 0 : row_bytes * Rows)) {}

    void operator()(const void*, std::int64_t byte, std::int64_t row) const {
        if (row * Block % kLine == 0) __builtin_prefetch(base_ + byte * Rows + row * Block);
    }

private:
    const char* base_;
};

// Sums of Rows x Cols dot products x_m . w_n, in registers. One vector of sums a pair, whatever the tile: see
// cpu_kernels.h.
template <class V, int Rows, int Cols>
struct DotTile {
    static_assert(Cols % 4 == 0);
    using Float = typename V::Float;
    static constexpr std::int64_t kFloats = Rows * Cols * V::kWidth;

    Float sum[Rows][Cols];

    void clear() {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < Cols; ++n) sum[m][n] = V::zero();
        }
    }

    // Puts the sums aside, and takes them up again: the bits are as if they had stayed.
    void save(float* memory) const {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < Cols; ++n) V::store(memory + (m * Cols + n) * V::kWidth, sum[m][n]);
        }
    }
    void restore(const float* memory) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < Cols; ++n) sum[m][n] = V::load(memory + (m * Cols + n) * V::kWidth);
        }
    }

    // Adds all `size` products.
    template <class T, class Ahead>
    void add(const float* x, std::int64_t x_stride, const T* const* w, std::int64_t size, const Ahead& ahead) {
        std::int64_t k = 0;
        for (; k + V::kWidth <= size; k += V::kWidth) step(x, x_stride, w, k, ahead);
        if (k < size) step(x, x_stride, w, k, NothingAhead(), size - k);
    }

    // Adds `vectors` vectors of products from packed rows, whose vectors lie in the order they are used in.
    void add_packed(const float* x, const float* w, std::int64_t vectors) {
        for (; vectors > 0; --vectors, x += Rows * V::kWidth, w += Cols * V::kWidth) {
            Float input[Rows];
#pragma GCC unroll 8
            for (int m = 0; m < Rows; ++m) input[m] = V::load(x + m * V::kWidth);
#pragma GCC unroll 8
            for (int n = 0; n < Cols; ++n) {
                const Float weight = V::load(w + n * V::kWidth);
#pragma GCC unroll 8
                for (int m = 0; m < Rows; ++m) sum[m][n] = V::fma(input[m], weight, sum[m][n]);
            }
        }
    }

    void finish(float* out, std::int64_t out_stride) const {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 8
            for (int n = 0; n < Cols; n += 4) {
                V::sum4(out + m * out_stride + n, sum[m][n], sum[m][n + 1], sum[m][n + 2], sum[m][n + 3]);
            }
        }
    }

private:
    template <class T, class Ahead, class... Left>
    void step(const float* x, std::int64_t x_stride, const T* const* w, std::int64_t k, const Ahead& ahead,
              Left... left) {
        Float input[Rows];
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) input[m] = V::load(x + m * x_stride + k, left...);
#pragma GCC unroll 8
        for (int n = 0; n < Cols; ++n) {
            const Float weight = V::load(w[n] + k, left...);
            ahead(w[n] + k, k * static_cast<std::int64_t>(sizeof(T)), n);
#pragma GCC unroll 8
            for (int m = 0; m < Rows; ++m) sum[m][n] = V::fma(input[m], weight, sum[m][n]);
        }
    }
};

// Enough dot products in flight to hide the latency of the sum when there are few rows.
template <class V, int Rows>
constexpr int tile_cols() {
    return Rows * 4 < 2 * V::kTileRows ? 8 : 4;
}

// w_n for the tile that begins at `first`. A row that is missing is the last one once more; nobody looks at its
// products.
template <int Cols, class RowOf, class Pointer>
void tile_rows(RowOf row_of, std::int64_t first, std::int64_t count, Pointer (&w)[Cols]) {
    for (int i = 0; i < Cols; ++i) w[i] = row_of(first + i < count ? first + i : count - 1);
}

// out[m * out_stride + n] = x_m . w_n for n < count, where row_of(n) points at w_n. `out` has room for a multiple of 8
// columns.
template <class V, int Rows, class RowOf>
void dot_rows(const float* x, std::int64_t x_stride, RowOf row_of, std::int64_t count, std::int64_t size, float* out,
              std::int64_t out_stride) {
    constexpr int kCols = tile_cols<V, Rows>();
    decltype(row_of(0)) w[kCols];
    for (std::int64_t n = 0; n < count; n += kCols) {
        tile_rows(row_of, n, count, w);
        DotTile<V, Rows, kCols> tile;
        tile.clear();
        tile.add(x, x_stride, w, size, NothingAhead());
        tile.finish(out + n, out_stride);
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

// The same in tiles that are as even as can be: 8 rows are 4 and 4, not 6 and 2. Tiles [begin, end) of them.
template <int Largest, class Visit>
void for_even_row_tiles(std::int64_t rows, std::int64_t begin, std::int64_t end, Visit visit) {
    const std::int64_t tiles = (rows + Largest - 1) / Largest;
    for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t first = rows * i / tiles, last = rows * (i + 1) / tiles;
        for_row_tiles<Largest>(last, visit, first);
    }
}

template <int Largest, class Visit>
void for_even_row_tiles(std::int64_t rows, Visit visit) {
    for_even_row_tiles<Largest>(rows, 0, (rows + Largest - 1) / Largest, visit);
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
