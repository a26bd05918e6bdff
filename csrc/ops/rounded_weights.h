// int8 and int4 weights as rounded_kernels.h reads them: a vector of kDotBlock bytes of a row at a time, which holds
// one part of as many columns (int8) or two parts, the low and the high halves (int4).
#pragma once

#include <bit>
#include <cstdint>

#include "core/int4_groups.h"
#include "ops/cpu_kernels.h"
#include "ops/rounded_rows.h"

namespace lrengine {
namespace {

struct Int8;
struct Int4;

template <class V, class T>
struct WeightBlock;

template <class V>
struct WeightBlock<V, Int8> {
    using Int = typename V::Int;
    static constexpr int kParts = 1;
    static constexpr std::int64_t kGroupBytes = kRoundedGroup;
    static constexpr int kTooLarge = V::kDotOffset;  // what weights are, for dot()

    static std::int64_t row_bytes(std::int64_t cols) { return cols; }
    static std::int64_t column(std::int64_t byte, int) { return byte; }

    // With `left` < kDotBlock the row ends after as many bytes.
    template <class... Left>
    static void weights(const char* place, Int (&parts)[1], Left... left) {
        parts[0] = V::load_weights(reinterpret_cast<const std::int8_t*>(place), left...);
    }
    template <class... Left>
    static void inputs(const typename V::DotInput* x, std::int64_t byte, Int (&parts)[1], Left...) {
        parts[0] = V::load_int(reinterpret_cast<const std::int32_t*>(x + byte));
    }

    // Calls visit(column, weights) for every kDotDepth columns of the block, counted from its first: lane i of
    // `weights` has those of the row at row(i), ready for dot().
    template <class Row, class Visit, class... Left>
    static void across(Row row, Visit visit, Left... left) {
        Int v[V::kWidth];
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i)
            v[i] = V::load_weights(reinterpret_cast<const std::int8_t*>(row(i)), left...);
        V::transpose(v);
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i) visit(i * kDotDepth<V>, v[i]);
    }
};

template <class V>
struct WeightBlock<V, Int4> {
    static_assert(kRoundedGroup == kInt4Block);  // so that both halves of a byte belong to one group of x
    using Int = typename V::Int;
    static constexpr int kParts = 2;
    static constexpr std::int64_t kGroupBytes = kRoundedGroup / 2;
    static constexpr int kTooLarge = kInt4Zero;

    static std::int64_t row_bytes(std::int64_t cols) { return cols / 2; }
    static std::int64_t column(std::int64_t byte, int part) {
        constexpr std::int64_t kHalf = kInt4Block / 2;
        return byte / kHalf * kInt4Block + part * kHalf + byte % kHalf;
    }

    // A row is whole blocks, so vectors that hold no more than one are full.
    template <class... Left>
    static void weights(const char* place, Int (&parts)[2], Left... left) {
        const auto* levels = reinterpret_cast<const std::uint8_t*>(place);
        if constexpr (kDotBlock<V> > kInt4Block / 2) {
            V::split_levels(levels, parts[0], parts[1], left...);
        } else {
            V::split_levels(levels, parts[0], parts[1]);
        }
    }
    template <class... Left>
    static void inputs(const typename V::DotInput* x, std::int64_t byte, Int (&parts)[2], Left... left) {
        if constexpr (kDotBlock<V> > kInt4Block / 2) {
            V::level_inputs(x + column(byte, 0), parts[0], parts[1], left...);
        } else {
            V::level_inputs(x + column(byte, 0), parts[0], parts[1]);
        }
    }

    // As WeightBlock<V, Int8>::across(). Where a lane's products of one half are a lane's bytes, these are taken apart
    // after they are put across.
    template <class Row, class Visit, class... Left>
    static void across(Row row, Visit visit, Left... left) {
        if constexpr (kDotDepth<V> == 4) {
            Int v[V::kWidth];
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i)
                v[i] = V::load_levels(reinterpret_cast<const std::uint8_t*>(row(i)), left...);
            V::transpose(v);
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i) {
                Int parts[kParts];
                V::split(v[i], parts[0], parts[1]);
                visit(column(i * kDotDepth<V>, 0), parts[0]);
                visit(column(i * kDotDepth<V>, 1), parts[1]);
            }
        } else {
            Int v[kParts][V::kWidth];
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i) {
                Int parts[kParts];
                weights(row(i), parts, left...);
                v[0][i] = parts[0];
                v[1][i] = parts[1];
            }
#pragma GCC unroll 2
            for (int part = 0; part < kParts; ++part) {
                V::transpose(v[part]);
#pragma GCC unroll 16
                for (int i = 0; i < V::kWidth; ++i) visit(column(i * kDotDepth<V>, part), v[part][i]);
            }
        }
    }
};

// Where a group's sum of products with T begins, from GroupOf::start.
template <class V, class T>
std::int32_t start_of_sum(std::int32_t start) {
    constexpr int kTooLarge = WeightBlock<V, T>::kTooLarge;
    if constexpr (kTooLarge == 0) {
        return 0;
    } else {
        static_assert(kOffset % kTooLarge == 0);
        return start >> std::countr_zero(static_cast<unsigned>(kOffset / kTooLarge));
    }
}

inline std::int64_t groups_of(const LinearTask& task) { return (task.cols + task.group_size - 1) / task.group_size; }

// scales[g * stride + i] = scale g < groups of row i of `rows`, which lie `row_groups` apart, in float32, kWidth rows;
// those that are missing have the last one's. A lane is transposed as two scales; each is a float's upper half.
template <class V>
void transpose_scales(const std::uint16_t* first_row, std::int64_t rows, std::int64_t row_groups, std::int64_t groups,
                      float* scales, std::int64_t stride) {
    constexpr std::int64_t kMost = 2 * V::kWidth;
    for (std::int64_t first = 0; first < groups; first += kMost) {
        const std::int64_t count = groups - first < kMost ? groups - first : kMost;
        const std::uint16_t* row = first_row + first;
        typename V::Int v[V::kWidth];
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i) {
            v[i] = V::load_pairs(row, count);
            row += i + 1 < rows ? row_groups : 0;
        }
        V::transpose(v);
        auto* target = reinterpret_cast<std::int32_t*>(scales + first * stride);
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i, target += 2 * stride) {
            if (2 * i >= count) break;
            V::store_int(target, V::lower_halves(v[i]));
            if (2 * i + 1 < count) V::store_int(target + stride, V::upper_halves(v[i]));
        }
    }
}

// What sums of products of group g are multiplied by before x's scale, for the columns of W from `column`: nothing for
// int8, ...
template <class V, class T>
class ColumnScales {
public:
    ColumnScales(const LinearTask&, const float*, std::int64_t) {}

    typename V::Float times(typename V::Float sum, std::int64_t, std::int64_t) const { return sum; }
};

// ... the scale of W's group for int4, from [groups, stride].
template <class V>
class ColumnScales<V, Int4> {
public:
    ColumnScales(const LinearTask& task, const float* scales, std::int64_t stride)
        : scales_(scales),
          stride_(stride),
          shift_(std::countr_zero(static_cast<std::uint64_t>(task.group_size / kRoundedGroup))) {}

    typename V::Float times(typename V::Float sum, std::int64_t g, std::int64_t column) const {
        return V::mul(sum, V::load(scales_ + (g >> shift_) * stride_ + column));
    }

private:
    const float* scales_;
    std::int64_t stride_;
    int shift_;
};

}  // namespace
}  // namespace lrengine
