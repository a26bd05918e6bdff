// Sixteen float lanes (AVX-512 F, BW, DQ, VL). Everything is in an unnamed namespace, here and in the kernels that are
// built from it: each instruction set is compiled with its own flags, and the linker must never merge their code.
#pragma once

// GCC 12's own header initialises undefined vectors with themselves and then warns about it (bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "ops/simd_types.h"

namespace lrengine {
namespace {

struct Avx512 {
    using Float = __m512;
    using Mask = __mmask16;
    static constexpr int kWidth = 16;
    // A tile of 6 x 4 dot products: 24 accumulators, 6 inputs and 1 weight in 32 registers.
    static constexpr int kTileRows = 6;

    static __mmask16 first(std::int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }

    static Float zero() { return _mm512_setzero_ps(); }
    static Float set(float value) { return _mm512_set1_ps(value); }

    static Float load(const float* p) { return _mm512_loadu_ps(p); }
    static Float load(const BFloat16* p) {
        return widen_bfloat16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Float load(const Float16* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Float load(const std::int8_t* p) { return widen_int8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }

    // The first `count` < kWidth elements, then zeros; nothing behind them is touched.
    static Float load(const float* p, std::int64_t count) { return _mm512_maskz_loadu_ps(first(count), p); }
    static Float load(const BFloat16* p, std::int64_t count) {
        return widen_bfloat16(_mm256_maskz_loadu_epi16(first(count), p));
    }
    static Float load(const Float16* p, std::int64_t count) {
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), p));
    }
    static Float load(const std::int8_t* p, std::int64_t count) {
        return widen_int8(_mm_maskz_loadu_epi8(first(count), p));
    }

    static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
    static void store(float* p, Float v, std::int64_t count) { _mm512_mask_storeu_ps(p, first(count), v); }

    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }  // b if either is NaN
    static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }  // b if either is NaN
    static Float abs(Float a) { return _mm512_abs_ps(a); }
    static Float copy_sign(Float magnitude, Float sign) {
        const Float bit = _mm512_set1_ps(-0.0f);
        return _mm512_or_ps(_mm512_andnot_ps(bit, magnitude), _mm512_and_ps(bit, sign));
    }
    static Float round(Float a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    // a * 2^power for integral powers.
    static Float scale_by_power(Float a, Float power) { return _mm512_scalef_ps(a, power); }

    static Mask greater(Float a, Float b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
    static Float select(Mask mask, Float yes, Float no) { return _mm512_mask_blend_ps(mask, no, yes); }
    static unsigned bits(Mask mask) { return mask; }

    // out[i] = sum of the lanes of the i-th argument, by halves: every sum has the same tree.
    static void sum4(float* out, Float a, Float b, Float c, Float d) { fold4(out, a, b, c, d, add); }
    // The same of the largest lane, where none is NaN.
    static void max4(float* out, Float a, Float b, Float c, Float d) { fold4(out, a, b, c, d, max); }

    using Int = __m512i;
    using DotInput = std::int16_t;
    // A tile of 6 x 2 vectors of integer sums and as many of their totals: 24, 2 weights, 1 input and its products in
    // 32 registers.
    static constexpr int kDotRows = 6;
    // As many as a packed tile has; more would not be one tile.
    static constexpr int kFewRows = 6;
    static constexpr int kDotOffset = 0;

    static Int set_int(std::int32_t value) { return _mm512_set1_epi32(value); }
    static Int load_int(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static void store_int(std::int32_t* p, Int v) { _mm512_storeu_si512(p, v); }
    static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }
    static Int add_int(Int a, Int b) { return _mm512_add_epi32(a, b); }
    static Int load_weights(const std::int8_t* p) {
        return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(static_cast<__mmask32>((1u << count) - 1u), p));
    }
    // Two blocks of int4, or one.
    static void split_levels(const std::uint8_t* p, Int& low, Int& high) {
        split(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), low, high);
    }
    static void split_levels(const std::uint8_t* p, Int& low, Int& high, std::int64_t) {
        split(_mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), low, high);
    }
    static void level_inputs(const std::int16_t* x, Int& low, Int& high) {
        halves(_mm512_loadu_si512(x), _mm512_loadu_si512(x + 32), low, high);
    }
    static void level_inputs(const std::int16_t* x, Int& low, Int& high, std::int64_t) {
        halves(_mm512_loadu_si512(x), _mm512_setzero_si512(), low, high);
    }
    static Int spread(const std::int16_t* p) {
        std::int32_t pair;
        std::memcpy(&pair, p, sizeof pair);
        return _mm512_set1_epi32(pair);
    }
    // As instructions: GCC 12 makes all products of a tile before it adds one, and has the sums in memory meanwhile.
    static Int dot(Int sum, Int weights, Int x) {
        Int products;
        asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(sum), "=&v"(products) : "v"(weights), "v"(x));
        return sum;
    }
    static void store_inputs(std::int16_t* p, Float v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
    }
    static void transpose(Int (&v)[16]) {
        Int pairs[16], fours[16];
#pragma GCC unroll 8
        for (int i = 0; i < 16; i += 2) {
            pairs[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
        }
        // fours[i + j]: in each quarter q, column 4 q + j of rows i to i + 3.
#pragma GCC unroll 4
        for (int i = 0; i < 16; i += 4) {
            fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const Int even = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x88);
            const Int odd = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xdd);
            const Int even_below = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x88);
            const Int odd_below = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xdd);
            v[j] = _mm512_shuffle_i32x4(even, even_below, 0x88);
            v[4 + j] = _mm512_shuffle_i32x4(odd, odd_below, 0x88);
            v[8 + j] = _mm512_shuffle_i32x4(even, even_below, 0xdd);
            v[12 + j] = _mm512_shuffle_i32x4(odd, odd_below, 0xdd);
        }
    }

    // `count` numbers of 16 bits, then zeros.
    static Int load_pairs(const std::uint16_t* p, std::int64_t count) {
        return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((std::uint64_t{1} << count) - 1), p);
    }
    // The half of each lane in its upper bits, the rest 0.
    static Int lower_halves(Int v) { return _mm512_slli_epi32(v, 16); }
    static Int upper_halves(Int v) { return _mm512_and_si512(v, _mm512_set1_epi32(INT32_C(-65536))); }
    // sums[g], lane i: the sum of lanes [kLanes g, kLanes g + kLanes) of v[i].
    template <int kLanes>
    static void sum_lanes(const Int (&v)[16], Int (&sums)[16 / kLanes]) {
        static_assert(kLanes == 4 || kLanes == 8 || kLanes == 16);
        Int fours[4];  // of rows 4 i to 4 i + 3, quarter by quarter
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            const Int ab = sum_pairs(v[4 * i], v[4 * i + 1]), cd = sum_pairs(v[4 * i + 2], v[4 * i + 3]);
            fours[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
        }
        const Int even = _mm512_shuffle_i32x4(fours[0], fours[1], 0x88), odd = odd_quarters(fours[0], fours[1]);
        const Int even_below = _mm512_shuffle_i32x4(fours[2], fours[3], 0x88),
                  odd_below = odd_quarters(fours[2], fours[3]);
        if constexpr (kLanes == 4) {
            sums[0] = _mm512_shuffle_i32x4(even, even_below, 0x88);
            sums[1] = _mm512_shuffle_i32x4(odd, odd_below, 0x88);
            sums[2] = odd_quarters(even, even_below);
            sums[3] = odd_quarters(odd, odd_below);
        } else {
            const Int eights = _mm512_add_epi32(even, odd), eights_below = _mm512_add_epi32(even_below, odd_below);
            const Int first = _mm512_shuffle_i32x4(eights, eights_below, 0x88);
            const Int second = odd_quarters(eights, eights_below);
            if constexpr (kLanes == 8) {
                sums[0] = first;
                sums[1] = second;
            } else {
                sums[0] = _mm512_add_epi32(first, second);
            }
        }
    }

private:
    static void split(__m256i blocks, Int& low, Int& high) {
        const __m512i bytes = _mm512_cvtepu8_epi16(blocks);
        low = _mm512_and_si512(bytes, _mm512_set1_epi16(15));
        high = _mm512_srli_epi16(bytes, 4);
    }
    static void halves(Int first, Int second, Int& low, Int& high) {
        low = _mm512_shuffle_i64x2(first, second, 0x44);
        high = _mm512_shuffle_i64x2(first, second, 0xee);
    }
    static Int sum_pairs(Int a, Int b) {
        return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    }
    static Int odd_quarters(Int a, Int b) { return _mm512_shuffle_i32x4(a, b, 0xdd); }
    template <class Op>
    static void fold4(float* out, Float a, Float b, Float c, Float d, Op op) {
        const Float ab = op(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
        const Float cd = op(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
        Float folded = op(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
        folded = op(folded, _mm512_permute_ps(folded, 0x4e));
        folded = op(folded, _mm512_permute_ps(folded, 0xb1));
        const __m512i each_fourth = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm_storeu_ps(out, _mm512_castps512_ps128(_mm512_permutexvar_ps(each_fourth, folded)));
    }
    static Float widen_bfloat16(__m256i v) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
    }
    static Float widen_int8(__m128i v) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(v)); }
};

}  // namespace
}  // namespace lrengine
