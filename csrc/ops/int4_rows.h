// Rows of an int4 weight where they lie (core/int4_groups.h), a vector of columns at a time. An instruction set has
//
//     V::Int4Group                what it needs of a group's scale
//     V::int4_group(scale)
//     V::load_int4<kHigh>(p, g)   kWidth weights from the low or the high halves of kWidth bytes: exactly
//                                 scale * (level - 8)
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/int4_groups.h"

namespace lrengine {
namespace {

// A bfloat16. A function of this unnamed namespace, not of core/dtype.h: see simd_avx512.h.
inline float group_scale(std::uint16_t bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

struct Int4Row {
    const std::uint8_t* levels;
    const std::uint16_t* scales;
    std::int64_t group_size;
};

// begin_group(g), then step(k, byte, high) for each vector of the group's columns in their order: its first column, its
// first byte, and which half of the bytes as std::bool_constant.
template <class V, class BeginGroup, class Step>
void for_int4_vectors(std::int64_t cols, std::int64_t group_size, BeginGroup begin_group, Step step) {
    constexpr std::int64_t kHalf = kInt4Block / 2;
    for (std::int64_t first = 0, group = 0; first < cols; first += group_size, ++group) {
        begin_group(group);
        const std::int64_t end = first + group_size < cols ? first + group_size : cols;
        for (std::int64_t k = first; k < end; k += kInt4Block) {
#pragma GCC unroll 4
            for (std::int64_t i = 0; i < kHalf; i += V::kWidth) step(k + i, k / 2 + i, std::false_type());
#pragma GCC unroll 4
            for (std::int64_t i = 0; i < kHalf; i += V::kWidth) step(k + kHalf + i, k / 2 + i, std::true_type());
        }
    }
}

// Vectors of Rows rows side by side, as linear_packed.h has them.
template <class V, int Rows>
void pack_rows(const Int4Row (&rows)[Rows], std::int64_t cols, float* packed) {
    typename V::Int4Group groups[Rows];
    for_int4_vectors<V>(
        cols, rows[0].group_size,
        [&](std::int64_t group) {
            for (int i = 0; i < Rows; ++i) groups[i] = V::int4_group(group_scale(rows[i].scales[group]));
        },
        [&](std::int64_t, std::int64_t byte, auto high) {
            for (int i = 0; i < Rows; ++i, packed += V::kWidth) {
                V::store(packed, V::template load_int4<high()>(rows[i].levels + byte, groups[i]));
            }
        });
}

}  // namespace
}  // namespace lrengine
