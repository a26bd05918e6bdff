// Rows of x as int8, a scale for each group g of G = kRoundedGroup columns of a row:
//
//     x[m, k] ~ s[m, g] q[m, k],  s[m, g] = max_{k in g} |x[m, k]| / 127
//
// for the products of rounded_kernels.h, which says what an instruction set has.
#pragma once

#include <cstdint>
#include <cstring>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/math_kernels.h"
#include "ops/row_kernels.h"

namespace lrengine {
namespace {

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

// At least as large as every V::kDotOffset that is not 0, and a multiple of int4's.
constexpr int kOffset = 128;

// What belongs to a group beside its integers.
struct GroupOf {
    float scale;         // NaN where x holds NaN or Inf: all that is made of it will be NaN
    std::int32_t start;  // of its sums: takes away what weights that are kOffset too large add
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
    for (int i = 0; i < N; ++i) groups[i].start = static_cast<std::int32_t>(numbers[i]) * -kOffset;
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

}  // namespace
}  // namespace lrengine
