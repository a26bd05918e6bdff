// Products of an int8 or int4 weight with rows of x that are rounded to int8, a scale for each group g of
// G = kRoundedGroup columns of a row:
//
//     x[m, k] ~ s[m, g] q[m, k],  s[m, g] = max_{k in g} |x[m, k]| / 127
//     int8: out[m, n] = activation(scales[n] * sum_g s[m, g] sum_{k in g} q[m, k] W[n, k] + bias[n]) + residual[m, n]
//     int4: out[m, n] = activation(sum_g s[m, g] t[n, g] sum_{k in g} q[m, k] W[n, k] + bias[n]) + residual[m, n]
//
// where W holds integers, of -8 to 7 for int4, and t[n, g] is the scale of the weight's group that holds g.
// A group's sum of integers is exact, so its order is free; groups are added in their order in float32, alike for every
// instruction set and number of rows. Many rows: columns of W lie side by side in the lanes, and a value of x is spread
// over all of them. A panel of 2 vectors of columns is copied in that order, into the first or second-level cache,
// while all rows pass by; for few rows a block at a time is put in that order in registers (rounded_few_rows.h). One
// row: W is read where it lies, and lanes are put together at the end of a group (rounded_one_row.h). Bytes: W
// once, x as int8 once a panel, out once; 2 M N K operations. The floor of few rows is W's bytes, of many the dot
// products: 128 a cycle and pipe with AVX-512 VNNI; scaling groups adds 8 instructions to G / 4 * 3
// (int4: 12).
//
// Where a panel is as wide as a group, a tile's outputs can be left as the rounded rows of the product that reads them
// (task.rounded_out), to the same integers that rounding them later would give.
//
// An instruction set has
//
//     V::Int                          kWidth lanes of int32: set_int(i), load_int(p), store_int(p, v)
//     V::DotInput                     what x is kept as: int8_t, 4 products a lane, or int16_t, 2 products a lane
//     V::kDotRows                     rows of a tile of two vectors of sums
//     V::kFewRows                     rows up to which W is put across in registers, block by block
//     V::load_weights(p[, count])     kDotBlock weights of int8, ready for dot(), kDotOffset too large
//     V::kDotOffset                   0 or kOffset
//     V::split_levels(p, low, high[, count])  the levels of kDotBlock bytes of int4, their low and their high halves,
//                                     ready for dot(), kInt4Zero too large
//     V::level_inputs(x, low, high[, count])  as many values of x in the same order, x's first being at p's first
//     V::load_levels(p[, count]), V::split(v, low, high)  split_levels() in two steps, where a lane has 4 products
//     V::sum_lanes<n>(v, sums)        sums[g], lane i: the sum of lanes [n g, n g + n) of v[i]
//     V::transpose(v)                 kWidth x kWidth lanes
//     V::load_pairs(p, count)         `count` numbers of 16 bits, two a lane, then zeros; V::lower_halves(v) and
//                                     V::upper_halves(v): one of each lane, in the lane's upper half
//     V::spread(p)                    a lane's products of values of x, in every lane
//     V::dot(sum, weights, x)         lane i: sum + weights . x, exactly
//     V::to_float(v), V::add_int(a, b)
//     V::store_inputs(p, v)           kWidth integral floats of at most 127
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/linear_packed.h"
#include "ops/rounded_few_rows.h"
#include "ops/rounded_one_row.h"
#include "ops/rounded_rows.h"
#include "ops/rounded_weights.h"

namespace lrengine {
namespace {

constexpr std::int64_t kPanelVectors = 2;
template <class V>
constexpr std::int64_t kPanelColumns = kPanelVectors * V::kWidth;

// Columns [first, first + count) of W, count at most a panel's, as [products of a lane, 2, kWidth]; of int4 the scales
// of its groups too, as [groups, 2, kWidth].
template <class V, class T>
void pack_panel(const LinearTask& task, std::int64_t first, std::int64_t count, std::int32_t* panel, float* scales,
                Fetcher& next) {
    using Block = WeightBlock<V, T>;
    const std::int64_t bytes = Block::row_bytes(task.cols), size = rounded_row<V>(task.cols);
    for (std::int64_t c = 0; c < kPanelVectors; ++c) {
        const char* rows[V::kWidth];
        tile_rows([&](std::int64_t n) { return static_cast<const char*>(task.weight) + (first + n) * bytes; },
                  c * V::kWidth, count, rows);
        std::int32_t* target = panel + c * V::kWidth;
        const auto block = [&](std::int64_t byte, auto... left) {
            next.step();
            const auto store = [&](std::int64_t column, typename V::Int weights) {
                const std::int64_t k = Block::column(byte, 0) + column;
                if (k < size) V::store_int(target + k / kDotDepth<V> * kPanelColumns<V>, weights);
            };
            Block::across([&](int i) { return rows[i] + byte; }, store, left...);
        };
        std::int64_t byte = 0;
        for (; byte + kDotBlock<V> <= bytes; byte += kDotBlock<V>) block(byte);
        if (byte < bytes) block(byte, bytes - byte);
        if constexpr (std::is_same_v<T, Int4>) {
            const std::int64_t column = c * V::kWidth < count ? c * V::kWidth : count - 1, groups = groups_of(task);
            transpose_scales<V>(task.group_scales + (first + column) * groups, count - column, groups, groups,
                                scales + c * V::kWidth, kPanelColumns<V>);
        }
    }
}

// The products of a tile's rows with a panel: products [Rows, 2 kWidth]. Rows' groups lie `groups` apart.
template <class V, class T, int Rows>
void rounded_tile(const typename V::DotInput* x, const std::int32_t* panel, std::int64_t size, const float* scales,
                  const std::int32_t* starts, std::int64_t groups, const ColumnScales<V, T>& columns, float* products,
                  Fetcher& next) {
    using Int = typename V::Int;
    constexpr std::int64_t kStep = kDotDepth<V>;
    typename V::Float total[Rows][kPanelVectors];
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) total[m][0] = total[m][1] = V::zero();
    for (std::int64_t g = 0; g < groups; ++g) {
        next.step();
        Int sum[Rows][kPanelVectors];
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m) sum[m][0] = sum[m][1] = V::set_int(start_of_sum<V, T>(starts[m * groups + g]));
        const std::int64_t left = size - g * kRoundedGroup, count = left < kRoundedGroup ? left : kRoundedGroup;
        for (std::int64_t k = 0; k < count; k += kStep) {
            const Int low = V::load_int(panel), high = V::load_int(panel + V::kWidth);
#pragma GCC unroll 16
            for (int m = 0; m < Rows; ++m) {
                const Int input = V::spread(x + m * kStep);
                sum[m][0] = V::dot(sum[m][0], low, input);
                sum[m][1] = V::dot(sum[m][1], high, input);
            }
            x += Rows * kStep;
            panel += kPanelVectors * V::kWidth;
        }
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m) {
            const auto scale = V::set(scales[m * groups + g]);
            total[m][0] = V::fma(scale, columns.times(V::to_float(sum[m][0]), g, 0), total[m][0]);
            total[m][1] = V::fma(scale, columns.times(V::to_float(sum[m][1]), g, V::kWidth), total[m][1]);
        }
    }
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) {
        V::store(products + 2 * m * V::kWidth, total[m][0]);
        V::store(products + (2 * m + 1) * V::kWidth, total[m][1]);
    }
}

// Whether a panel's outputs are just a group of the row that they are part of, and a row is filled by them.
template <class V>
bool rounds_outputs(std::int64_t outputs) {
    return kPanelColumns<V> == kRoundedGroup && outputs > 0 && outputs == rounded_row<V>(outputs);
}

// The group that begins at column `first` of task.rounded_out, of a tile's rows, from their products with the panel.
template <class V, int Rows>
void round_outputs(const LinearTask& task, const float* products, std::int64_t m, std::int64_t first) {
    static_assert(kPanelColumns<V> == kRoundedGroup);
    using Input = typename V::DotInput;
    const RoundedRows& target = *task.rounded_out;
    float outputs[Rows][kRoundedGroup];
    Input values[Rows][kRoundedGroup];
    GroupOf groups[Rows];
    for (int r = 0; r < Rows; ++r) {
        finish_row<V>(task, products + r * kPanelColumns<V>, m + r, first, kRoundedGroup, outputs[r]);
    }
    round_groups<V>([&](int r) { return outputs[r]; }, kRoundedGroup, [&](int r) { return values[r]; }, groups);
    Input* place = static_cast<Input*>(target.values) + m * target.cols + first * Rows;
    for (std::int64_t k = 0; k < kRoundedGroup; k += kDotDepth<V>) {
        for (int r = 0; r < Rows; ++r, place += kDotDepth<V>) std::memcpy(place, values[r] + k, 4);
    }
    for (int r = 0; r < Rows; ++r) put(groups[r], target, m + r, first / kRoundedGroup);
}

// Bytes of scratch: one panel, the scales of its groups, and the products of a tile with it.
template <class V>
std::int64_t rounded_scratch(std::int64_t cols) {
    return 4 * kPanelColumns<V> * (rounded_row<V>(cols) / kDotDepth<V> + rounded_groups(cols) + V::kDotRows);
}

// Outputs [first, first + count) of a tile of rows from `m`, from its products with a panel.
template <class V, int Rows>
void finish_tile(const LinearTask& task, const float* products, std::int64_t m, std::int64_t first,
                 std::int64_t count) {
    if constexpr (kPanelColumns<V> == kRoundedGroup) {
        if (task.rounded_out != nullptr) return round_outputs<V, Rows>(task, products, m, first);
    }
    for (int r = 0; r < Rows; ++r) finish_row<V>(task, products + r * kPanelColumns<V>, m + r, first, count);
}

// Outputs [first, first + count) of a task's rows from the packed panel.
template <class V, class T>
void panel_rows(const LinearTask& task, const std::int32_t* panel, std::int64_t first, std::int64_t count,
                const ColumnScales<V, T>& columns, float* products, Fetcher& next) {
    const RoundedRows& x = *task.rounded;
    const std::int64_t size = rounded_row<V>(task.cols), groups = rounded_groups(task.cols);
    const auto* values = static_cast<const typename V::DotInput*>(x.values);
    for_even_row_tiles<V::kDotRows>(x.rows, [&](std::int64_t m, auto tile) {
        rounded_tile<V, T, tile.value>(values + m * size, panel, size, x.scales + m * groups, x.starts + m * groups,
                                       groups, columns, products, next);
        finish_tile<V, tile.value>(task, products, m, first, count);
    });
}

// Steps that rounded_tile() takes for all rows of a task.
template <class V>
std::int64_t tile_steps(const LinearTask& task) {
    return (task.rows + V::kDotRows - 1) / V::kDotRows * rounded_groups(task.cols);
}

// Panels of W as they lie, for one tile of rows.
template <class V, class T>
void few_rows(const LinearTask& task, float* scratch) {
    static_assert(V::kFewRows <= V::kDotRows);  // so that round_rows() has put them in one tile
    const std::int64_t bytes = WeightBlock<V, T>::row_bytes(task.cols);
    float* products = scratch;
    auto* copy = reinterpret_cast<char*>(products + V::kFewRows * kPanelColumns<V>);
    float* scales = products + V::kFewRows * kPanelColumns<V> + V::kWidth * bytes / 4;
    const ColumnScales<V, T> columns(task, scales, V::kWidth);
    for_row_tiles<V::kFewRows>(task.rows, [&](std::int64_t, auto tile) {
        for (std::int64_t first = task.begin; first < task.end; first += kPanelColumns<V>) {
            const std::int64_t left = task.end - first, count = left < kPanelColumns<V> ? left : kPanelColumns<V>;
            std::fill_n(products, tile.value * kPanelColumns<V>, 0.0f);
            for (std::int64_t c = 0; c < count; c += V::kWidth) {
                const std::int64_t most = count - c < V::kWidth ? count - c : V::kWidth;
                const auto stretch = [&](const char* rows, std::int64_t begin, std::int64_t end, const char* next) {
                    few_rows_tile<tile.value>(*task.rounded, rows, bytes, begin, end, columns, next, products + c,
                                              kPanelColumns<V>);
                };
                for_stretches<V, T>(task, first + c, most, copy, scales, stretch);
            }
            finish_tile<V, tile.value>(task, products, 0, first, count);
        }
    });
}

// W is read once for a task and those behind it only where it is packed, so few rows that share it are packed for too.
template <class V, class T>
void linear_rounded_of(const LinearTask& task, float* scratch) {
    if (task.next == nullptr) {
        if (task.rows == 1 && task.rounded_out == nullptr) return one_row<V, T>(task, scratch);
        if (task.rows <= V::kFewRows) return few_rows<V, T>(task, scratch);
    }
    const std::int64_t size = rounded_row<V>(task.cols), bytes = WeightBlock<V, T>::row_bytes(task.cols);
    auto* panel = reinterpret_cast<std::int32_t*>(scratch);
    float* scales = scratch + kPanelColumns<V> * (size / kDotDepth<V>);
    float* products = scales + kPanelColumns<V> * rounded_groups(task.cols);
    const ColumnScales<V, T> columns(task, scales, kPanelColumns<V>);
    std::int64_t steps = kPanelVectors * (bytes / kDotBlock<V>);
    for (const LinearTask* part = &task; part != nullptr; part = part->next) steps += tile_steps<V>(*part);
    for (std::int64_t first = task.begin, last = first; first < task.end; first = last) {
        last = task.end - first < kPanelColumns<V> ? task.end : first + kPanelColumns<V>;
        const std::int64_t after = task.end - last < kPanelColumns<V> ? task.end - last : kPanelColumns<V>;
        Fetcher next(static_cast<const char*>(task.weight) + last * bytes, after * bytes, steps);
        pack_panel<V, T>(task, first, last - first, panel, scales, next);
        for (const LinearTask* part = &task; part != nullptr; part = part->next) {
            panel_rows<V, T>(*part, panel, first, last - first, columns, products, next);
        }
    }
}

// Outputs [task.begin, task.end) of all rows of the task and of those behind it.
template <class V>
void linear_rounded(const LinearTask& task, void* scratch) {
    auto* memory = static_cast<float*>(scratch);
    if (task.dtype == DType::kInt4) return linear_rounded_of<V, Int4>(task, memory);
    linear_rounded_of<V, Int8>(task, memory);
}

}  // namespace
}  // namespace lrengine
