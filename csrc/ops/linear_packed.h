// Products with many rows of x. A block of W is copied, as float32 and in the order of use, into the second-level
// cache, a stretch of a tile of x into the first; then nothing depends on how far apart rows lie (a distance of 4096
// bytes would have them evict each other).
#pragma once

#include <cstdint>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/math_kernels.h"

namespace lrengine {
namespace {

constexpr int kPackedColumns = 4;
// Floats of W that stay in the second-level cache (576 of 1,024 kB) while all of x passes by.
constexpr std::int64_t kBlockFloats = 144 * 1024;
constexpr std::int64_t kMostBlockRows = 128;
// A stretch of K: 6 rows of x are 24 kB, 4 of W are 16 kB, beside the sums that wait for the next stretch, for 48 kB. A
// multiple of every vector's width.
constexpr std::int64_t kDepth = 1024;

// Rows of x that are packed at a time, 6 MB of them at most; W is packed anew for each such part.
inline std::int64_t most_packed_rows(std::int64_t cols) {
    constexpr std::int64_t kFloats = 512 * 3072, kMost = 512;
    const std::int64_t rows = kFloats / (cols > 0 ? cols : 1) / 8 * 8;
    return rows < 8 ? 8 : rows > kMost ? kMost : rows;
}

inline std::int64_t block_rows(std::int64_t cols) {
    const std::int64_t rows = kBlockFloats / (cols > 0 ? cols : 1) / 8 * 8;
    return rows < 8 ? 8 : rows > kMostBlockRows ? kMostBlockRows : rows;
}

// What linear_packed() keeps where in its scratch.
template <class V>
struct PackedScratch {
    std::int64_t row;  // floats of a packed row
    float* products;   // [tile rows, block rows]
    float* sums;       // a vector for each of them
    float* w;          // [block rows / 4, vectors of K, 4, width]
    float* x;          // by tiles [vectors of K, tile rows, width]

    static constexpr std::int64_t kProducts = V::kTileRows * kMostBlockRows;

    PackedScratch(const LinearTask& task, float* memory)
        : row((task.cols + V::kWidth - 1) / V::kWidth * V::kWidth),
          products(memory),
          sums(products + kProducts),
          w(sums + kProducts * V::kWidth),
          x(w + block_rows(task.cols) * row) {}

    static std::int64_t floats(std::int64_t rows, std::int64_t cols) {
        const std::int64_t packed = block_rows(cols) + (rows < most_packed_rows(cols) ? rows : most_packed_rows(cols));
        return kProducts * (1 + V::kWidth) + packed * (cols + V::kWidth);
    }
};

// Asks for a stretch of memory bit by bit, while something else is computed.
class Fetcher {
public:
    Fetcher(const void* begin, std::int64_t bytes, std::int64_t steps)
        : at_(static_cast<const char*>(begin)),
          end_(at_ + bytes),
          step_((bytes / 64 / (steps > 0 ? steps : 1) + 1) * 64) {}

    void step() {
        const char* stop = end_ - at_ < step_ ? end_ : at_ + step_;
        for (; at_ < stop; at_ += 64) __builtin_prefetch(at_, 0, 2);
    }

private:
    const char* at_;
    const char* end_;
    std::int64_t step_;
};

// Vectors of Rows rows side by side, zeros behind the end.
template <class V, int Rows, class T>
void pack_rows(const T* const (&rows)[Rows], std::int64_t end, float* packed) {
    std::int64_t k = 0;
    for (; k + V::kWidth <= end; k += V::kWidth, packed += Rows * V::kWidth) {
        for (int i = 0; i < Rows; ++i) V::store(packed + i * V::kWidth, V::load(rows[i] + k));
    }
    if (k < end) {
        for (int i = 0; i < Rows; ++i) V::store(packed + i * V::kWidth, V::load(rows[i] + k, end - k));
    }
}

// Row m of all rows of a task and of those behind it.
struct TaskRow {
    const LinearTask& task;
    std::int64_t row;

    const float* x() const { return task.x + row * task.x_stride; }
};

inline TaskRow row_of(const LinearTask& first, std::int64_t m) {
    const LinearTask* part = &first;
    for (; m >= part->rows; part = part->next) m -= part->rows;
    return {*part, m};
}

// From a row of dot products to outputs [first, first + count) of row m, which `out` gets.
template <class V>
void finish_row(const LinearTask& task, const float* products, std::int64_t m, std::int64_t first, std::int64_t count,
                float* out) {
    const float* residual = task.residual ? task.residual + m * task.residual_stride + first : nullptr;
    const float* bias = task.bias ? task.bias + first : nullptr;
    const float* scales = task.scales ? task.scales + first : nullptr;
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        auto value = V::load(products + i);
        if (scales) value = V::mul(value, V::load(scales + i, left...));
        if (bias) value = V::add(value, V::load(bias + i, left...));
        value = activate<V>(task.activation, value);
        if (residual) value = V::add(value, V::load(residual + i, left...));
        V::store(out + i, value, left...);
    });
}

template <class V>
void finish_row(const LinearTask& task, const float* products, std::int64_t m, std::int64_t first, std::int64_t count) {
    finish_row<V>(task, products, m, first, count, task.out + m * task.out_stride + first);
}

// Outputs [first, first + count) of rows [m, m + Rows) from packed rows x and the packed block.
template <class V, int Rows>
void packed_tile(const LinearTask& task, std::int64_t m, const float* x, std::int64_t first, std::int64_t count,
                 const PackedScratch<V>& scratch, Fetcher& next) {
    const std::int64_t size = scratch.row;
    for (std::int64_t k = 0; k < size || k == 0; k += kDepth) {
        const std::int64_t depth = size - k < kDepth ? size - k : kDepth;
        for (std::int64_t n = 0; n < count; n += kPackedColumns) {
            DotTile<V, Rows, kPackedColumns> tile;
            float* sums = scratch.sums + n * Rows * V::kWidth;
            if (k == 0) {
                tile.clear();
            } else {
                tile.restore(sums);
            }
            next.step();
            tile.add_packed(x + k * Rows, scratch.w + n * size + k * kPackedColumns, depth / V::kWidth);
            if (k + depth == size) {
                tile.finish(scratch.products + n, kMostBlockRows);
            } else {
                tile.save(sums);
            }
        }
    }
    for (int i = 0; i < Rows; ++i) {
        const TaskRow own = row_of(task, m + i);
        finish_row<V>(own.task, scratch.products + i * kMostBlockRows, own.row, first, count);
    }
}

// Outputs [task.begin, task.end) of rows [begin, end) of x.
template <class V, class T>
void packed_rows(const LinearTask& task, std::int64_t begin, std::int64_t end, const PackedScratch<V>& scratch) {
    const auto* weight = static_cast<const T*>(task.weight);
    const std::int64_t size = task.cols, step = block_rows(size);
    for_even_row_tiles<V::kTileRows>(end - begin, [&](std::int64_t m, auto tile) {
        const float* rows[decltype(tile)::value];
        tile_rows([&](std::int64_t i) { return row_of(task, begin + m + i).x(); }, 0, tile.value, rows);
        pack_rows<V>(rows, size, scratch.x + m * scratch.row);
    });
    for (std::int64_t first = task.begin; first < task.end; first += step) {
        const std::int64_t count = task.end - first < step ? task.end - first : step;
        for (std::int64_t n = 0; n < count; n += kPackedColumns) {
            const T* rows[kPackedColumns];
            tile_rows([&](std::int64_t i) { return weight + (first + i) * size; }, n, count, rows);
            pack_rows<V>(rows, size, scratch.w + n * scratch.row);
        }
        const std::int64_t after = task.end - first - count < step ? task.end - first - count : step;
        const std::int64_t steps =
            ((end - begin) / V::kTileRows) * (count / kPackedColumns) * ((size + kDepth - 1) / kDepth);
        Fetcher next(weight + (first + count) * size, after * size * static_cast<std::int64_t>(sizeof(T)), steps);
        for_even_row_tiles<V::kTileRows>(end - begin, [&](std::int64_t m, auto tile) {
            packed_tile<V, decltype(tile)::value>(task, begin + m, scratch.x + m * scratch.row, first, count, scratch,
                                                  next);
        });
    }
}

template <class V, class T>
void linear_packed(const LinearTask& task, float* memory) {
    const PackedScratch<V> scratch(task, memory);
    const std::int64_t rows = all_rows(task), most = most_packed_rows(task.cols), parts = (rows + most - 1) / most;
    for (std::int64_t i = 0; i < parts; ++i) {
        packed_rows<V, T>(task, rows * i / parts, rows * (i + 1) / parts, scratch);
    }
}

}  // namespace
}  // namespace lrengine
