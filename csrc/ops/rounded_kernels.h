// Products of an int8 weight with rows of x that are rounded to int8 too, a scale for each group g of G = kRoundedGroup
// columns of a row:
//
//     x[m, k] ~ s[m, g] q[m, k],  s[m, g] = max_{k in g} |x[m, k]| / 127
//     out[m, n] = activation(scales[n] * sum_g s[m, g] sum_{k in g} q[m, k] W[n, k] + bias[n]) + residual[m, n]
//
// A group's sum of integers is exact, so its order is free; groups are added in their order in float32, alike for every
// instruction set and number of rows. Many rows: columns of W lie side by side in the lanes, and a value of x is spread
// over all of them. A panel of 2 vectors of columns is copied in that order, into the first or second-level cache,
// while all rows pass by. One row: W is read where it lies, and lanes are put together at the end of a group. Bytes: W
// once, x as int8 once a panel, out once; 2 M N K operations. The floor of few rows is W's bytes, of many the dot
// products: 128 a cycle and pipe with AVX-512 VNNI; scaling groups adds 8 instructions to G / 4 * 3.
//
// Where a panel is as wide as a group, a tile's outputs can be left as the rounded rows of the product that reads them
// (task.rounded_out), to the same integers that rounding them later would give.
//
// An instruction set has
//
//     V::Int                          kWidth lanes of int32: set_int(i), load_int(p), store_int(p, v)
//     V::DotInput                     what x is kept as: int8_t, 4 products a lane, or int16_t, 2 products a lane
//     V::kDotRows                     rows of a tile of two vectors of sums
//     V::kDotOffset                   is added to each weight
//     V::load_weights(p[, count])     a lane's products times kWidth weights, ready for dot()
//     V::transpose(v)                 kWidth x kWidth lanes
//     V::spread(p)                    a lane's products of values of x, in every lane
//     V::dot(sum, weights, x)         lane i: sum + weights . x, exactly
//     V::to_float(v), V::add_int(a, b)
//     V::store_inputs(p, v)           kWidth integral floats of at most 127
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/linear_packed.h"
#include "ops/math_kernels.h"
#include "ops/row_kernels.h"

namespace lrengine {
namespace {

constexpr std::int64_t kPanelVectors = 2;
template <class V>
constexpr std::int64_t kPanelColumns = kPanelVectors * V::kWidth;

template <class V>
constexpr std::int64_t kDotDepth = 4 / static_cast<std::int64_t>(sizeof(typename V::DotInput));
template <class V>
constexpr std::int64_t kDotBlock = V::kWidth * kDotDepth<V>;

// Values of a rounded row: K rounded up to what a vector of weights holds.
template <class V>
std::int64_t rounded_row(std::int64_t cols) {
    return (cols + kDotBlock<V> - 1) / kDotBlock<V> * kDotBlock<V>;
}

template <class V>
std::int64_t rounded_bytes(std::int64_t rows, std::int64_t cols) {
    return rows * rounded_row<V>(cols) * static_cast<std::int64_t>(sizeof(typename V::DotInput));
}

// What belongs to a group beside its integers.
struct GroupOf {
    float scale;         // NaN where x holds NaN or Inf: all that is made of it will be NaN
    std::int32_t start;  // of its sums: takes kDotOffset away
};

// N groups of x, x(i) of `cols` columns each, to integers at values(i), whole vectors of them. Several at a time, as
// what runs over the lanes of one waits for itself.
template <class V, int N, class X, class Values>
void round_groups(X x, std::int64_t cols, Values values, GroupOf (&groups)[N]) {
    constexpr unsigned kAll = (1u << V::kWidth) - 1u;
    constexpr float kLeast = 1e-36f;  // what is smaller counts as zero: 127 / x must be finite
    constexpr int kPadded = (N + 3) / 4 * 4;
    typename V::Float found[kPadded];
    unsigned finite[N];
    float numbers[kPadded], inverses[N];
    const auto infinity = V::set(__builtin_inff());
#pragma GCC unroll 8
    for (int i = 0; i < kPadded; ++i) found[i] = V::zero();
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
        finite[i] = kAll;
        for_vectors<V>(cols, [&](std::int64_t k, auto... left) {
            const auto size = V::abs(V::load(x(i) + k, left...));
            found[i] = V::max(size, found[i]);
            finite[i] &= V::bits(V::greater(infinity, size));
        });
    }
#pragma GCC unroll 2
    for (int i = 0; i < N; i += 4) V::max4(numbers + i, found[i], found[i + 1], found[i + 2], found[i + 3]);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
        const bool all = finite[i] == kAll;
        groups[i].scale = all ? numbers[i] / 127.0f : __builtin_nanf("");
        inverses[i] = all && numbers[i] > kLeast ? 127.0f / numbers[i] : 0.0f;
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
        const auto factor = V::set(inverses[i]);
        found[i] = V::zero();
        for_vectors<V>(cols, [&](std::int64_t k, auto... left) {
            // Not NaN times nothing: what becomes of the integers of a group that cannot be scaled must not matter.
            const auto value = inverses[i] == 0.0f ? V::zero() : V::round(V::mul(factor, V::load(x(i) + k, left...)));
            found[i] = V::add(found[i], value);  // exact
            V::store_inputs(values(i) + k, value);
        });
    }
#pragma GCC unroll 2
    for (int i = 0; i < N; i += 4) V::sum4(numbers + i, found[i], found[i + 1], found[i + 2], found[i + 3]);
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) groups[i].start = static_cast<std::int32_t>(numbers[i]) * -V::kDotOffset;
}

inline void put(const GroupOf& group, const RoundedRows& rows, std::int64_t m, std::int64_t g) {
    const std::int64_t index = m * rounded_groups(rows.cols) + g;
    rows.scales[index] = group.scale;
    rows.starts[index] = group.start;
}

// Row m's integers to `values` [rounded_row], and what belongs to its groups.
template <class V>
void round_row(const RoundedRows& rows, std::int64_t m, typename V::DotInput* values) {
    const float* x = rows.x + m * rows.x_stride;
    const std::int64_t count = rounded_groups(rows.cols), whole = rows.cols / kRoundedGroup;
    std::int64_t g = 0;
    const auto round = [&](auto& groups, std::int64_t cols) {
        const auto column = [&](int i) { return (g + i) * kRoundedGroup; };
        round_groups<V>([&](int i) { return x + column(i); }, cols, [&](int i) { return values + column(i); }, groups);
        for (const GroupOf& group : groups) put(group, rows, m, g++);
    };
    GroupOf four[4], one[1];
    while (g + 4 <= whole) round(four, kRoundedGroup);
    while (g < count) round(one, g < whole ? kRoundedGroup : rows.cols - g * kRoundedGroup);
    std::int64_t i = (rows.cols + V::kWidth - 1) / V::kWidth * V::kWidth;
    for (; i < rounded_row<V>(rows.cols); i += V::kWidth) V::store_inputs(values + i, V::zero());
}

// Tiles [begin, end) of rows: by tiles [products of a lane, row], so that a tile reads them in their order. `row` is
// room for one rounded row.
template <class V>
void round_rows(const RoundedRows& job, std::int64_t begin, std::int64_t end, void* row) {
    using Input = typename V::DotInput;
    const std::int64_t size = rounded_row<V>(job.cols);
    auto* values = static_cast<Input*>(row);
    for_even_row_tiles<V::kDotRows>(job.rows, begin, end, [&](std::int64_t first, auto tile) {
        Input* target = static_cast<Input*>(job.values) + first * size;
        for (std::int64_t r = 0; r < tile.value; ++r) {
            round_row<V>(job, first + r, values);
            for (std::int64_t k = 0; k < size; k += kDotDepth<V>) {
                std::memcpy(target + k * tile.value + r * kDotDepth<V>, values + k, 4);
            }
        }
    });
}

// Columns [first, first + count) of W, count at most a panel's, as [products of a lane, 2, kWidth].
template <class V>
void pack_panel(const LinearTask& task, std::int64_t first, std::int64_t count, std::int32_t* panel, Fetcher& next) {
    const auto* weight = static_cast<const std::int8_t*>(task.weight) + first * task.cols;
    for (std::int64_t c = 0; c < kPanelVectors; ++c) {
        const std::int8_t* rows[V::kWidth];
        tile_rows([&](std::int64_t n) { return weight + n * task.cols; }, c * V::kWidth, count, rows);
        std::int32_t* target = panel + c * V::kWidth;
        const auto block = [&](std::int64_t k, auto... left) {
            next.step();
            typename V::Int v[V::kWidth];
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i) v[i] = V::load_weights(rows[i] + k, left...);
            V::transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i, target += kPanelVectors * V::kWidth) V::store_int(target, v[i]);
        };
        std::int64_t k = 0;
        for (; k + kDotBlock<V> <= task.cols; k += kDotBlock<V>) block(k);
        if (k < task.cols) block(k, task.cols - k);
    }
}

// The products of a tile's rows with a panel: products [Rows, 2 kWidth]. Rows' groups lie `groups` apart.
template <class V, int Rows>
void rounded_tile(const typename V::DotInput* x, const std::int32_t* panel, std::int64_t size, const float* scales,
                  const std::int32_t* starts, std::int64_t groups, float* products, Fetcher& next) {
    using Int = typename V::Int;
    constexpr std::int64_t kStep = kDotDepth<V>;
    typename V::Float total[Rows][kPanelVectors];
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) total[m][0] = total[m][1] = V::zero();
    for (std::int64_t g = 0; g < groups; ++g) {
        next.step();
        Int sum[Rows][kPanelVectors];
#pragma GCC unroll 16
        for (int m = 0; m < Rows; ++m) sum[m][0] = sum[m][1] = V::set_int(starts[m * groups + g]);
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
            total[m][0] = V::fma(scale, V::to_float(sum[m][0]), total[m][0]);
            total[m][1] = V::fma(scale, V::to_float(sum[m][1]), total[m][1]);
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

// Bytes of scratch: one panel, and the products of a tile with it.
template <class V>
std::int64_t rounded_scratch(std::int64_t cols) {
    return 4 * kPanelVectors * V::kWidth * (rounded_row<V>(cols) / kDotDepth<V> + V::kDotRows);
}

// Outputs [first, first + count) of a task's rows from the packed panel.
template <class V>
void panel_rows(const LinearTask& task, const std::int32_t* panel, std::int64_t first, std::int64_t count,
                float* products, Fetcher& next) {
    const RoundedRows& x = *task.rounded;
    const std::int64_t size = rounded_row<V>(task.cols), groups = rounded_groups(task.cols);
    const auto* values = static_cast<const typename V::DotInput*>(x.values);
    for_even_row_tiles<V::kDotRows>(x.rows, [&](std::int64_t m, auto tile) {
        rounded_tile<V, tile.value>(values + m * size, panel, size, x.scales + m * groups, x.starts + m * groups,
                                    groups, products, next);
        if constexpr (kPanelColumns<V> == kRoundedGroup) {
            if (task.rounded_out != nullptr) return round_outputs<V, tile.value>(task, products, m, first);
        }
        for (int r = 0; r < tile.value; ++r) finish_row<V>(task, products + r * kPanelColumns<V>, m + r, first, count);
    });
}

// Steps that rounded_tile() takes for all rows of a task.
template <class V>
std::int64_t tile_steps(const LinearTask& task) {
    return (task.rows + V::kDotRows - 1) / V::kDotRows * rounded_groups(task.cols);
}

// Outputs [first, first + kWidth) of one row, for which packing W would not pay: the lanes of a sum are products that
// lie apart in K, and are put together when a vector or a group of columns ends.
template <class V, class Ahead>
typename V::Float one_row_tile(const RoundedRows& x, const std::int8_t* const (&rows)[V::kWidth], const Ahead& ahead) {
    constexpr std::int64_t kSpan = kDotBlock<V> > kRoundedGroup ? kDotBlock<V> : kRoundedGroup;
    constexpr int kGroups = static_cast<int>(kSpan / kRoundedGroup), kLanes = V::kWidth / kGroups;
    const auto* values = static_cast<const typename V::DotInput*>(x.values);
    auto total = V::zero();
    for (std::int64_t k = 0; k < x.cols; k += kSpan) {
        typename V::Int sums[V::kWidth];
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i) sums[i] = V::set_int(0);
        const auto block = [&](std::int64_t b, auto... left) {
            const auto input = V::load_int(reinterpret_cast<const std::int32_t*>(values + b));
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i) {
                sums[i] = V::dot(sums[i], V::load_weights(rows[i] + b, left...), input);
                ahead(rows[i], b, i);
            }
        };
        for (std::int64_t b = k; b < k + kSpan && b < x.cols; b += kDotBlock<V>) {
            if (b + kDotBlock<V> <= x.cols) {
                block(b);
            } else {
                block(b, x.cols - b);
            }
        }
        V::transpose(sums);
        const std::int64_t first = k / kRoundedGroup, last = rounded_groups(x.cols);
        for (int g = 0; g < kGroups && first + g < last; ++g) {
            auto sum = V::set_int(x.starts[first + g]);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; ++i) sum = V::add_int(sum, sums[g * kLanes + i]);
            total = V::fma(V::set(x.scales[first + g]), V::to_float(sum), total);
        }
    }
    return total;
}

template <class V>
void one_row(const LinearTask& task, float* products) {
    const auto* weight = static_cast<const std::int8_t*>(task.weight);
    for (std::int64_t first = task.begin; first < task.end; first += V::kWidth) {
        const std::int64_t count = task.end - first < V::kWidth ? task.end - first : V::kWidth;
        const std::int8_t* rows[V::kWidth];
        tile_rows([&](std::int64_t n) { return weight + (first + n) * task.cols; }, 0, count, rows);
        using Near = BytesAhead<V::kWidth, kDotBlock<V>>;
        if (V::kWidth * task.cols > Near::kFarthest) {
            V::store(products, one_row_tile<V>(*task.rounded, rows, RowsAhead(task.cols, V::kWidth)));
        } else {
            const Near ahead(rows[0], task.cols, task.end - first <= V::kWidth);
            V::store(products, one_row_tile<V>(*task.rounded, rows, ahead));
        }
        finish_row<V>(task, products, 0, first, count);
    }
}

// Outputs [task.begin, task.end) of all rows of the task and of those behind it.
template <class V>
void linear_rounded(const LinearTask& task, void* scratch) {
    if (task.rows == 1 && task.next == nullptr && task.rounded_out == nullptr)
        return one_row<V>(task, static_cast<float*>(scratch));
    const std::int64_t size = rounded_row<V>(task.cols);
    auto* panel = static_cast<std::int32_t*>(scratch);
    auto* products = static_cast<float*>(scratch) + kPanelColumns<V> * (size / kDotDepth<V>);
    std::int64_t steps = kPanelVectors * (size / kDotBlock<V>);
    for (const LinearTask* part = &task; part != nullptr; part = part->next) steps += tile_steps<V>(*part);
    for (std::int64_t first = task.begin, last = first; first < task.end; first = last) {
        last = task.end - first < kPanelColumns<V> ? task.end : first + kPanelColumns<V>;
        const std::int64_t after = task.end - last < kPanelColumns<V> ? task.end - last : kPanelColumns<V>;
        Fetcher next(static_cast<const char*>(task.weight) + last * task.cols, after * task.cols, steps);
        pack_panel<V>(task, first, last - first, panel, next);
        for (const LinearTask* part = &task; part != nullptr; part = part->next) {
            panel_rows<V>(*part, panel, first, last - first, products, next);
        }
    }
}

}  // namespace
}  // namespace lrengine
