// One row of x with int8 or int4 weights (rounded_kernels.h): decoding, bound by the bytes of W, so most of what is
// here has them arrive in time.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/linear_packed.h"
#include "ops/rounded_rows.h"
#include "ops/rounded_weights.h"

namespace lrengine {
namespace {

// The compiler forgets where a pointer comes from: else GCC 12 keeps one for each of a tile's rows, most of them in
// memory.
inline void forget_origin(const char*& place) { asm volatile("" : "+r"(place)); }

// Where kWidth rows of W are read, by fours, which instructions can address from one register.
template <class V>
class TilePlace {
public:
    TilePlace(const char* rows, std::int64_t bytes) : bytes_(bytes) {
#pragma GCC unroll 4
        for (int i = 0; i < kFours; ++i) {
            fours_[i] = rows + 4 * i * bytes;
            forget_origin(fours_[i]);
        }
    }

    const char* row(int i) const { return fours_[i / 4] + i % 4 * bytes_; }

    void advance(std::int64_t bytes) {
#pragma GCC unroll 4
        for (int i = 0; i < kFours; ++i) {
            fours_[i] += bytes;
            forget_origin(fours_[i]);
        }
    }

private:
    static constexpr int kFours = V::kWidth / 4;

    const char* fours_[kFours];
    std::int64_t bytes_;
};

// Adds what bytes [begin, end), whole vectors and groups but for the last, of kWidth rows of W that lie `bytes` apart
// give for one row of x, for which packing W would not pay: the lanes of a sum are products that lie apart in K, and
// are put together when a vector or a group of columns ends. Meanwhile `next` is asked for, the tile behind this one in
// the order of memory (kAhead), or these rows further on.
template <bool kAhead, class V, class T>
typename V::Float one_row_tile(const RoundedRows& x, const char* rows, std::int64_t bytes, std::int64_t begin,
                               std::int64_t end, const ColumnScales<V, T>& columns, const char* next,
                               typename V::Float total) {
    using Block = WeightBlock<V, T>;
    using Int = typename V::Int;
    constexpr std::int64_t kSpan = kDotBlock<V> > Block::kGroupBytes ? kDotBlock<V> : Block::kGroupBytes;
    constexpr int kGroups = static_cast<int>(kSpan / Block::kGroupBytes);
    const auto* values = static_cast<const typename V::DotInput*>(x.values);
    const std::int64_t first_group = begin / Block::kGroupBytes;
    TilePlace<V> place(rows + begin, bytes);
    next += V::kWidth * begin;
    std::int64_t first = first_group;
    const auto span = [&](auto is_whole, typename V::Float total) {
        Int lanes[V::kWidth], sums[kGroups];
#pragma GCC unroll 16
        for (int i = 0; i < V::kWidth; ++i) lanes[i] = V::set_int(0);
        const auto block = [&](std::int64_t byte, auto... left) {
            Int inputs[Block::kParts];
            Block::inputs(values, byte, inputs, left...);
#pragma GCC unroll 16
            for (int i = 0; i < V::kWidth; ++i) {
                Int weights[Block::kParts];
                Block::weights(place.row(i), weights, left...);
                if constexpr (kAhead) {
                    if (i * kDotBlock<V> % kLine == 0) __builtin_prefetch(next + i * kDotBlock<V>);
                } else {
                    if (byte % kLine == 0) __builtin_prefetch(place.row(i) + kInRow);
                }
#pragma GCC unroll 2
                for (int part = 0; part < Block::kParts; ++part) {
                    lanes[i] = V::dot(lanes[i], weights[part], inputs[part]);
                }
            }
            place.advance(kDotBlock<V>);
            next += V::kWidth * kDotBlock<V>;
            forget_origin(next);
        };
        if constexpr (is_whole()) {
#pragma GCC unroll 4
            for (std::int64_t byte = 0; byte < kSpan; byte += kDotBlock<V>) block(begin + byte);
        } else {
            std::int64_t byte = begin;
            for (; byte + kDotBlock<V> <= end; byte += kDotBlock<V>) block(byte);
            if (byte < end) block(byte, end - byte);
        }
        V::template sum_lanes<V::kWidth / kGroups>(lanes, sums);
#pragma GCC unroll 4
        for (int g = 0; g < kGroups; ++g, ++first) {
            if (!is_whole() && first >= rounded_groups(x.cols)) break;
            const Int sum = V::add_int(sums[g], V::set_int(start_of_sum<V, T>(x.starts[first])));
            total = V::fma(V::set(x.scales[first]), columns.times(V::to_float(sum), first - first_group, 0), total);
        }
        return total;
    };
    for (; begin + kSpan <= end; begin += kSpan) total = span(std::true_type(), total);
    return begin < end ? span(std::false_type(), total) : total;
}

// `rows` stretches of `bytes`, `stride` apart, will soon be needed: each was a miss that all else waited for.
inline void ask_for(const void* begin, std::int64_t bytes, std::int64_t stride = 0, std::int64_t rows = 1) {
    for (std::int64_t row = 0; row < rows; ++row) {
        for (std::int64_t byte = 0; byte < bytes; byte += kLine) {
            const char* line = static_cast<const char*>(begin) + row * stride + byte;
            forget_origin(line);  // or GCC 12 takes this function for one without effects, and drops its calls
            __builtin_prefetch(line);
        }
    }
}

// Groups of int4 whose scales are made ready at a time: for rows of thousands of columns all at once was slower.
constexpr std::int64_t kReadyGroups = 64;

template <class T>
std::int64_t stretch_of(const LinearTask& task, std::int64_t bytes) {
    if constexpr (std::is_same_v<T, Int4>) return kReadyGroups * task.group_size / 2;
    return bytes;
}

// Calls tile(rows, begin, end, next) with bytes [begin, end) of rows [first, first + count) of W, count at most kWidth,
// stretch by stretch, and what is to be asked for meanwhile; for int4, `scales` are then those of the stretch. What is
// missing of kWidth rows is zeros, in `copy`.
template <class V, class T, class Tile>
void for_stretches(const LinearTask& task, std::int64_t first, std::int64_t count, char* copy, float* scales,
                   Tile tile) {
    const std::int64_t bytes = WeightBlock<V, T>::row_bytes(task.cols), stretch = stretch_of<T>(task, bytes);
    const std::int64_t left = task.end - first - count, after = left < V::kWidth ? left : V::kWidth;
    const char* rows = static_cast<const char*>(task.weight) + first * bytes;
    // After the last tile nothing new.
    const char* next = after == 0 ? rows : rows + V::kWidth * bytes;
    if (count < V::kWidth) {
        std::memcpy(copy, rows, static_cast<std::size_t>(count * bytes));
        std::memset(copy + count * bytes, 0, static_cast<std::size_t>((V::kWidth - count) * bytes));
        rows = copy;
    }
    if (task.scales != nullptr) ask_for(task.scales + first + count, after * 4);
    if (task.bias != nullptr) ask_for(task.bias + first + count, after * 4);
    for (std::int64_t begin = 0; begin < bytes; begin += stretch) {
        const std::int64_t end = begin + stretch < bytes ? begin + stretch : bytes;
        if constexpr (std::is_same_v<T, Int4>) {
            const std::int64_t groups = groups_of(task), group = 2 * begin / task.group_size;
            const std::uint16_t* of_stretch = task.group_scales + first * groups + group;
            const std::int64_t most = groups - group < kReadyGroups ? groups - group : kReadyGroups;
            transpose_scales<V>(of_stretch, count, groups, most, scales, V::kWidth);
            if (most == groups) {
                ask_for(of_stretch + count * groups, after * groups * 2);
            } else {
                ask_for(of_stretch + count * groups, most * 2, groups * 2, after);
            }
        }
        tile(rows, begin, end, next);
    }
}

template <class V, class T>
void one_row(const LinearTask& task, float* scratch) {
    const std::int64_t bytes = WeightBlock<V, T>::row_bytes(task.cols);
    float* products = scratch;
    auto* copy = reinterpret_cast<char*>(products + V::kWidth);
    float* scales = products + V::kWidth + V::kWidth * bytes / 4;  // of int4, whose rows are whole words
    const ColumnScales<V, T> columns(task, scales, V::kWidth);
    for (std::int64_t first = task.begin; first < task.end; first += V::kWidth) {
        const std::int64_t count = task.end - first < V::kWidth ? task.end - first : V::kWidth;
        auto total = V::zero();
        for_stretches<V, T>(task, first, count, copy, scales, [&](auto rows, auto begin, auto end, auto next) {
            total = V::kWidth * bytes <= kFarthestAhead
                        ? one_row_tile<true>(*task.rounded, rows, bytes, begin, end, columns, next, total)
                        : one_row_tile<false>(*task.rounded, rows, bytes, begin, end, columns, next, total);
        });
        V::store(products, total);
        finish_row<V>(task, products, 0, first, count);
    }
}

}  // namespace
}  // namespace lrengine
