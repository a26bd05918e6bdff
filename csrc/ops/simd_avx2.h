// Eight float lanes (AVX2, FMA, F16C). In an unnamed namespace for the reason given in simd_avx512.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "ops/simd_types.h"

namespace lrengine {
namespace {

struct Avx2 {
    using Float = __m256;
    using Mask = __m256;
    static constexpr int kWidth = 8;
    // A tile of 3 x 4 dot products: 12 accumulators, 3 inputs and 1 weight in 16 registers.
    static constexpr int kTileRows = 3;

    static Float zero() { return _mm256_setzero_ps(); }
    static Float set(float value) { return _mm256_set1_ps(value); }

    static Float load(const float* p) { return _mm256_loadu_ps(p); }
    static Float load(const BFloat16* p) {
        const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
    }
    static Float load(const Float16* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static Float load(const std::int8_t* p) {
        const __m128i narrow = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(narrow));
    }

    // The first `count` < kWidth elements, then zeros; nothing behind them is touched.
    static Float load(const float* p, std::int64_t count) { return _mm256_maskload_ps(p, first(count)); }
    template <typename T>
    static Float load(const T* p, std::int64_t count) {
        T padded[kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        return load(padded);
    }

    static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
    static void store(float* p, Float v, std::int64_t count) { _mm256_maskstore_ps(p, first(count), v); }

    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }  // b if either is NaN
    static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }  // b if either is NaN
    static Float abs(Float a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
    static Float copy_sign(Float magnitude, Float sign) {
        const Float bit = _mm256_set1_ps(-0.0f);
        return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
    }
    static Float round(Float a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    // a * 2^power for integral powers in [-252, 254]: in two steps, because one factor may not be a normal number.
    static Float scale_by_power(Float a, Float power) {
        const __m256i whole = _mm256_cvtps_epi32(power);
        const __m256i half = _mm256_srai_epi32(whole, 1);
        return _mm256_mul_ps(_mm256_mul_ps(a, power_of_two(half)), power_of_two(_mm256_sub_epi32(whole, half)));
    }

    static Mask greater(Float a, Float b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
    static Float select(Mask mask, Float yes, Float no) { return _mm256_blendv_ps(no, yes, mask); }
    static unsigned bits(Mask mask) { return static_cast<unsigned>(_mm256_movemask_ps(mask)); }

    // out[i] = sum of the lanes of the i-th argument, by halves: every sum has the same tree.
    static void sum4(float* out, Float a, Float b, Float c, Float d) { fold4(out, a, b, c, d, add); }
    // The same of the largest lane, where none is NaN.
    static void max4(float* out, Float a, Float b, Float c, Float d) { fold4(out, a, b, c, d, max); }

    using Int = __m256i;
    using DotInput = std::int16_t;
    // A tile of 6 x 2 vectors of sums: 12 accumulators, 2 weights, 1 input and its products in 16 registers.
    static constexpr int kDotRows = 6;
    // Measured: four and more are as fast or faster with W packed.
    static constexpr int kFewRows = 3;
    // Weights as int16: vpmaddubsw, with four products a lane of bytes, would cut sums off at 2^15.
    static constexpr int kDotOffset = 0;

    static Int set_int(std::int32_t value) { return _mm256_set1_epi32(value); }
    static Int load_int(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
    static void store_int(std::int32_t* p, Int v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
    static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }
    static Int add_int(Int a, Int b) { return _mm256_add_epi32(a, b); }
    static Int load_weights(const std::int8_t* p) {
        return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        std::int8_t padded[2 * kWidth] = {};
        std::memcpy(padded, p, static_cast<std::size_t>(count));
        return load_weights(padded);
    }
    // A block of int4.
    static void split_levels(const std::uint8_t* p, Int& low, Int& high) {
        const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        low = _mm256_and_si256(bytes, _mm256_set1_epi16(15));
        high = _mm256_srli_epi16(bytes, 4);
    }
    static void level_inputs(const std::int16_t* x, Int& low, Int& high) {
        low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 16));
    }
    static Int spread(const std::int16_t* p) {
        std::int32_t pair;
        std::memcpy(&pair, p, sizeof pair);
        return _mm256_set1_epi32(pair);
    }
    // As instructions: GCC 12 makes all products of a tile before it adds one, and has the sums in memory meanwhile.
    static Int dot(Int sum, Int weights, Int x) {
        Int products;
        asm("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(products) : "x"(weights), "x"(x));
        return sum;
    }
    static void store_inputs(std::int16_t* p, Float v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), pairs_of(v)); }
    static void transpose(Int (&v)[8]) {
        Int pairs[8], fours[8];
#pragma GCC unroll 4
        for (int i = 0; i < 8; i += 2) {
            pairs[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
        }
        // fours[i + j]: in each half h, column 4 h + j of rows i to i + 3.
#pragma GCC unroll 2
        for (int i = 0; i < 8; i += 4) {
            fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
            fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
            fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
            fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            v[j] = _mm256_permute2x128_si256(fours[j], fours[4 + j], 0x20);
            v[4 + j] = _mm256_permute2x128_si256(fours[j], fours[4 + j], 0x31);
        }
    }

    // `count` numbers of 16 bits, then zeros.
    static Int load_pairs(const std::uint16_t* p, std::int64_t count) {
        if (count == 2 * kWidth) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        std::uint16_t padded[2 * kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(padded));
    }
    // The half of each lane in its upper bits, the rest 0.
    static Int lower_halves(Int v) { return _mm256_slli_epi32(v, 16); }
    static Int upper_halves(Int v) { return _mm256_and_si256(v, _mm256_set1_epi32(INT32_C(-65536))); }
    // sums[g], lane i: the sum of lanes [kLanes g, kLanes g + kLanes) of v[i].
    template <int kLanes>
    static void sum_lanes(const Int (&v)[8], Int (&sums)[8 / kLanes]) {
        static_assert(kLanes == 4 || kLanes == 8);
        Int fours[2];  // of rows 4 i to 4 i + 3, half by half
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const Int ab = sum_pairs(v[4 * i], v[4 * i + 1]), cd = sum_pairs(v[4 * i + 2], v[4 * i + 3]);
            fours[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
        }
        const Int first = _mm256_permute2x128_si256(fours[0], fours[1], 0x20);
        const Int second = _mm256_permute2x128_si256(fours[0], fours[1], 0x31);
        if constexpr (kLanes == 4) {
            sums[0] = first;
            sums[1] = second;
        } else {
            sums[0] = _mm256_add_epi32(first, second);
        }
    }

protected:
    // Integral floats as int16.
    static __m128i pairs_of(Float v) {
        const __m256i wide = _mm256_cvtps_epi32(v);
        return _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    }

private:
    static Int sum_pairs(Int a, Int b) {
        return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    }
    template <class Op>
    static void fold4(float* out, Float a, Float b, Float c, Float d, Op op) {
        const Float ab = op(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
        const Float cd = op(_mm256_permute2f128_ps(c, d, 0x20), _mm256_permute2f128_ps(c, d, 0x31));
        Float folded = op(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
        folded = op(folded, _mm256_permute_ps(folded, 0xb1));  // a a c c | b b d d
        _mm_storeu_ps(out, _mm_blend_ps(_mm256_castps256_ps128(folded), _mm256_extractf128_ps(folded, 1), 0b1010));
    }
    static __m256i first(std::int64_t count) {
        const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
    }
    static Float power_of_two(__m256i power) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(power, _mm256_set1_epi32(127)), 23));
    }
};

}  // namespace
}  // namespace lrengine
