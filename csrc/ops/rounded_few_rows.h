// Few rows of x with int8 or int4 weights (rounded_kernels.h): a tile of W's rows is put side by side in the lanes as
// in a packed panel, but in registers, block by block, and multiplied at once. Bound by the bytes of W like one row.
#pragma once

#include <cstdint>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/rounded_one_row.h"
#include "ops/rounded_rows.h"
#include "ops/rounded_weights.h"

namespace lrengine {
namespace {

// The sums of a tile of Rows rounded rows with kWidth rows of W, group by group.
template <class V, class T, int Rows>
class FewRows {
public:
    using Block = WeightBlock<V, T>;
    using Int = typename V::Int;
    using Input = typename V::DotInput;
    static constexpr std::int64_t kSpan = kDotBlock<V> > Block::kGroupBytes ? kDotBlock<V> : Block::kGroupBytes;

    // From byte `at` of W's rows on, which lie `bytes` apart. The scales of `columns` begin with those of byte `begin`.
    FewRows(const RoundedRows& x, const char* rows, std::int64_t bytes, std::int64_t begin, std::int64_t at,
            const ColumnScales<V, T>& columns, const char* next)
        : groups_(rounded_groups(x.cols)),
          size_(rounded_row<V>(x.cols)),
          group_(at / Block::kGroupBytes),
          first_scale_(begin / Block::kGroupBytes),
          values_(static_cast<const Input*>(x.values) + group_ * kRoundedGroup * Rows),
          scales_(x.scales),
          starts_(x.starts),
          place_(rows + at, bytes),
          columns_(columns),
          next_(next + V::kWidth * at) {}

    void load(const float* totals, std::int64_t stride) {
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) total_[r] = V::load(totals + r * stride);
    }
    void store(float* totals, std::int64_t stride) const {
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) V::store(totals + r * stride, total_[r]);
    }

    // Adds kSpan bytes of each row of W.
    [[gnu::always_inline]] void add_span() {
        Int sums[kGroups][Rows];
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) start(g, sums[g]);
#pragma GCC unroll 4
        for (std::int64_t offset = 0; offset < kSpan; offset += kDotBlock<V>) {
            const auto row = [&](int i) __attribute__((always_inline)) {
                if (i * kDotBlock<V> % kLine == 0) __builtin_prefetch(next_ + i * kDotBlock<V>);
                return place_.row(i);
            };
            const auto visit = [&](std::int64_t column, Int weights) __attribute__((always_inline)) {
                add(Block::column(offset, 0) + column, weights, sums);
            };
            Block::across(row, visit);
            advance();
        }
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g) finish(g, sums[g]);
        values_ += kGroups * kRoundedGroup * Rows;
        group_ += kGroups;
    }

    // Adds the last `left` < kSpan bytes: seldom done, so it is kept short.
    void add_rest(std::int64_t left) {
        const std::int64_t k_left = size_ - group_ * kRoundedGroup;
        const int there = static_cast<int>(groups_ - group_);
        Int sums[kGroups][Rows];
        for (int g = 0; g < kGroups; ++g) start(g < there ? g : 0, sums[g]);
        for (std::int64_t offset = 0; offset < left; offset += kDotBlock<V>) {
            Int across[Block::kParts * V::kWidth];
            std::int64_t columns[Block::kParts * V::kWidth];
            int count = 0;
            const auto row = [&](int i) { return place_.row(i); };
            const auto keep = [&](std::int64_t column, Int weights) {
                columns[count] = Block::column(offset, 0) + column;
                across[count++] = weights;
            };
            if (left - offset < kDotBlock<V>) {
                Block::across(row, keep, left - offset);
            } else {
                Block::across(row, keep);
            }
#pragma GCC unroll 1
            for (int i = 0; i < count; ++i) {
                if (columns[i] < k_left) add(columns[i], across[i], sums);
            }
            advance();
        }
        for (int g = 0; g < there; ++g) finish(g, sums[g]);
    }

private:
    static constexpr int kGroups = static_cast<int>(kSpan / Block::kGroupBytes);

    [[gnu::always_inline]] void start(int g, Int (&sums)[Rows]) const {
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            sums[r] = V::set_int(start_of_sum<V, T>(starts_[r * groups_ + group_ + g]));
        }
    }

    [[gnu::always_inline]] void add(std::int64_t k, Int weights, Int (&sums)[kGroups][Rows]) const {
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            Int& sum = sums[k / kRoundedGroup][r];
            sum = V::dot(sum, weights, V::spread(values_ + k * Rows + r * kDotDepth<V>));
        }
    }

    [[gnu::always_inline]] void advance() {
        place_.advance(kDotBlock<V>);
        next_ += V::kWidth * kDotBlock<V>;
        forget_origin(next_);
    }

    [[gnu::always_inline]] void finish(int g, const Int (&sums)[Rows]) {
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const auto sum = columns_.times(V::to_float(sums[r]), group_ + g - first_scale_, 0);
            total_[r] = V::fma(V::set(scales_[r * groups_ + group_ + g]), sum, total_[r]);
        }
    }

    std::int64_t groups_, size_;  // of a rounded row
    std::int64_t group_;          // the next one
    std::int64_t first_scale_;    // the group of the first scale in columns_
    const Input* values_;         // of that group
    const float* scales_;
    const std::int32_t* starts_;
    TilePlace<V> place_;
    ColumnScales<V, T> columns_;
    const char* next_;
    typename V::Float total_[Rows];
};

// Adds to totals [Rows, kWidth], `stride` apart, what bytes [begin, end), whole vectors and groups but for the last, of
// kWidth rows of W that lie `bytes` apart give for Rows rows of x. Meanwhile `next` is asked for, the tile behind this
// one.
template <int Rows, class V, class T>
void few_rows_tile(const RoundedRows& x, const char* rows, std::int64_t bytes, std::int64_t begin, std::int64_t end,
                   const ColumnScales<V, T>& columns, const char* next, float* totals, std::int64_t stride) {
    using Sums = FewRows<V, T, Rows>;
    const std::int64_t rest = (end - begin) % Sums::kSpan;
    if (rest < end - begin) {
        Sums sums(x, rows, bytes, begin, begin, columns, next);
        sums.load(totals, stride);
        for (std::int64_t at = begin; at < end - rest; at += Sums::kSpan) sums.add_span();
        sums.store(totals, stride);
    }
    if (rest == 0) return;
    // Another object: one that add_rest() knows would be in memory during the loop.
    Sums sums(x, rows, bytes, begin, end - rest, columns, next);
    sums.load(totals, stride);
    sums.add_rest(rest);
    sums.store(totals, stride);
}

}  // namespace
}  // namespace lrengine
