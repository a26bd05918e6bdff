// Eight float lanes in two registers (AArch64's Advanced SIMD, which every such processor has). Eight and not four: the
// narrow types are widened from whole 64-bit loads, and every sum has AVX2's tree, so its bits too. In an unnamed
// namespace for the reason given in simd_avx512.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "ops/simd_types.h"

namespace lrengine {
namespace {

struct Neon {
    struct Float {
        float32x4_t low, high;
    };
    struct Mask {
        uint32x4_t low, high;
    };
    static constexpr int kWidth = 8;
    // A tile of 3 x 4 dot products: 24 registers of sums, 6 of inputs and 2 of a weight are all 32.
    static constexpr int kTileRows = 3;

    static Float zero() { return set(0.0f); }
    static Float set(float value) { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }

    static Float load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
    static Float load(const BFloat16* p) {
        const uint16x8_t narrow = vld1q_u16(reinterpret_cast<const std::uint16_t*>(p));
        return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(narrow), 16)),
                vreinterpretq_f32_u32(vshll_high_n_u16(narrow, 16))};
    }
    static Float load(const Float16* p) {
        const float16x8_t narrow = vreinterpretq_f16_u16(vld1q_u16(reinterpret_cast<const std::uint16_t*>(p)));
        return {vcvt_f32_f16(vget_low_f16(narrow)), vcvt_high_f32_f16(narrow)};
    }
    static Float load(const std::int8_t* p) { return widen(vmovl_s8(vld1_s8(p))); }

    // The first `count` < kWidth elements, then zeros; nothing behind them is touched.
    template <typename T>
    static Float load(const T* p, std::int64_t count) {
        T padded[kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        return load(padded);
    }

    static void store(float* p, Float v) {
        vst1q_f32(p, v.low);
        vst1q_f32(p + 4, v.high);
    }
    static void store(float* p, Float v, std::int64_t count) {
        float lanes[kWidth];
        store(lanes, v);
        for (std::int64_t i = 0; i < count; ++i) p[i] = lanes[i];
    }

    static Float add(Float a, Float b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
    static Float sub(Float a, Float b) { return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)}; }
    static Float mul(Float a, Float b) { return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)}; }
    static Float div(Float a, Float b) { return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)}; }
    static Float fma(Float a, Float b, Float c) {
        return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
    }
    // b if either is NaN, which neither of the machine's own maxima gives.
    static Float max(Float a, Float b) { return select(greater(a, b), a, b); }
    static Float min(Float a, Float b) { return select(greater(b, a), a, b); }
    static Float abs(Float a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }
    static Float copy_sign(Float magnitude, Float sign) {
        const uint32x4_t bit = vdupq_n_u32(0x80000000u);
        return select({bit, bit}, sign, magnitude);
    }
    static Float round(Float a) { return {vrndnq_f32(a.low), vrndnq_f32(a.high)}; }
    // a * 2^power for integral powers in [-252, 254]: in two steps, because one factor may not be a normal number.
    static Float scale_by_power(Float a, Float power) {
        return {scale_by_power(a.low, power.low), scale_by_power(a.high, power.high)};
    }

    static Mask greater(Float a, Float b) { return {vcgtq_f32(a.low, b.low), vcgtq_f32(a.high, b.high)}; }
    static Float select(Mask mask, Float yes, Float no) {
        return {vbslq_f32(mask.low, yes.low, no.low), vbslq_f32(mask.high, yes.high, no.high)};
    }
    static unsigned bits(Mask mask) {
        constexpr std::uint32_t kBits[kWidth] = {1, 2, 4, 8, 16, 32, 64, 128};
        return vaddvq_u32(vorrq_u32(vandq_u32(mask.low, vld1q_u32(kBits)), vandq_u32(mask.high, vld1q_u32(kBits + 4))));
    }

    // out[i] = sum of the lanes of the i-th argument, by halves: every sum has the same tree.
    static void sum4(float* out, Float a, Float b, Float c, Float d) {
        vst1q_f32(out, vpaddq_f32(fold(a, b), fold(c, d)));
    }
    // out[i] = largest lane of the i-th argument, where none is NaN.
    static void max4(float* out, Float a, Float b, Float c, Float d) {
        const auto fold_max = [](Float v, Float w) {
            return vpmaxq_f32(vmaxq_f32(v.low, v.high), vmaxq_f32(w.low, w.high));
        };
        vst1q_f32(out, vpmaxq_f32(fold_max(a, b), fold_max(c, d)));
    }

    // Integer products, two of 16 bits a lane.
    struct Int {
        int32x4_t low, high;
    };
    using DotInput = std::int16_t;
    // A tile of 3 x 2 vectors of integer sums and as many of their totals: 24 registers, 4 of weights, 1 of inputs.
    static constexpr int kDotRows = 3;
    static constexpr int kFewRows = 3;  // as AVX2's, not measured
    static constexpr int kDotOffset = 0;

    static Int set_int(std::int32_t value) { return {vdupq_n_s32(value), vdupq_n_s32(value)}; }
    static Int load_int(const std::int32_t* p) { return {vld1q_s32(p), vld1q_s32(p + 4)}; }
    static void store_int(std::int32_t* p, Int v) {
        vst1q_s32(p, v.low);
        vst1q_s32(p + 4, v.high);
    }
    static Int add_int(Int a, Int b) { return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)}; }
    static Float to_float(Int v) { return {vcvtq_f32_s32(v.low), vcvtq_f32_s32(v.high)}; }
    static Int load_weights(const std::int8_t* p) {
        const int8x16_t bytes = vld1q_s8(p);
        return {vreinterpretq_s32_s16(vmovl_s8(vget_low_s8(bytes))), vreinterpretq_s32_s16(vmovl_high_s8(bytes))};
    }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        std::int8_t padded[2 * kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        return load_weights(padded);
    }
    // A block of int4.
    static void split_levels(const std::uint8_t* p, Int& low, Int& high) {
        const uint8x16_t bytes = vld1q_u8(p);
        low = widen_levels(vandq_u8(bytes, vdupq_n_u8(15)));
        high = widen_levels(vshrq_n_u8(bytes, 4));
    }
    static void level_inputs(const std::int16_t* x, Int& low, Int& high) {
        low = load_int(reinterpret_cast<const std::int32_t*>(x));
        high = load_int(reinterpret_cast<const std::int32_t*>(x + 16));
    }
    // `count` numbers of 16 bits, then zeros.
    static Int load_pairs(const std::uint16_t* p, std::int64_t count) {
        std::uint16_t padded[2 * kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        return {vreinterpretq_s32_u16(vld1q_u16(padded)), vreinterpretq_s32_u16(vld1q_u16(padded + kWidth))};
    }
    // The half of each lane in its upper bits, the rest 0.
    static Int lower_halves(Int v) { return {vshlq_n_s32(v.low, 16), vshlq_n_s32(v.high, 16)}; }
    static Int upper_halves(Int v) {
        const int32x4_t mask = vdupq_n_s32(INT32_C(-65536));
        return {vandq_s32(v.low, mask), vandq_s32(v.high, mask)};
    }
    // sums[0], lane i: the sum of the lanes of v[i].
    template <int kLanes>
    static void sum_lanes(const Int (&v)[kWidth], Int (&sums)[1]) {
        static_assert(kLanes == kWidth);
        int32x4_t halves[kWidth];
#pragma GCC unroll 8
        for (int i = 0; i < kWidth; ++i) halves[i] = vaddq_s32(v[i].low, v[i].high);
        const auto fold = [&](int i) {
            return vpaddq_s32(vpaddq_s32(halves[i], halves[i + 1]), vpaddq_s32(halves[i + 2], halves[i + 3]));
        };
        sums[0] = {fold(0), fold(4)};
    }
    static Int spread(const std::int16_t* p) {
        std::int32_t pair;
        __builtin_memcpy(&pair, p, sizeof pair);
        return set_int(pair);
    }
    static Int dot(Int sum, Int weights, Int x) {
        return {dot(sum.low, weights.low, x.low), dot(sum.high, weights.high, x.high)};
    }
    static void store_inputs(std::int16_t* p, Float v) {
        vst1q_s16(p, vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(v.low)), vqmovn_s32(vcvtnq_s32_f32(v.high))));
    }
    static void transpose(Int (&v)[kWidth]) {
        const auto below = transposed(v[4].low, v[5].low, v[6].low, v[7].low);
        const auto beside = transposed(v[0].high, v[1].high, v[2].high, v[3].high);
        const auto across = transposed(v[4].high, v[5].high, v[6].high, v[7].high);
        const auto first = transposed(v[0].low, v[1].low, v[2].low, v[3].low);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
            v[i] = {first.rows[i], below.rows[i]};
            v[4 + i] = {beside.rows[i], across.rows[i]};
        }
    }

private:
    static Int widen_levels(uint8x16_t levels) {
        return {vreinterpretq_s32_u16(vmovl_u8(vget_low_u8(levels))), vreinterpretq_s32_u16(vmovl_high_u8(levels))};
    }
    struct Square {
        int32x4_t rows[4];
    };
    static Square transposed(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) {
        const int64x2_t ab = vreinterpretq_s64_s32(vtrn1q_s32(a, b)), ab_odd = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
        const int64x2_t cd = vreinterpretq_s64_s32(vtrn1q_s32(c, d)), cd_odd = vreinterpretq_s64_s32(vtrn2q_s32(c, d));
        return {{vreinterpretq_s32_s64(vtrn1q_s64(ab, cd)), vreinterpretq_s32_s64(vtrn1q_s64(ab_odd, cd_odd)),
                 vreinterpretq_s32_s64(vtrn2q_s64(ab, cd)), vreinterpretq_s32_s64(vtrn2q_s64(ab_odd, cd_odd))}};
    }
    static int32x4_t dot(int32x4_t sum, int32x4_t weights, int32x4_t x) {
        const int16x8_t w = vreinterpretq_s16_s32(weights), values = vreinterpretq_s16_s32(x);
        return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(w), vget_low_s16(values)), vmull_high_s16(w, values)));
    }
    static Float widen(int16x8_t v) {
        return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))), vcvtq_f32_s32(vmovl_high_s16(v))};
    }
    // The lanes of a by halves, twice: two sums; then b's.
    static float32x4_t fold(Float a, Float b) {
        const float64x2_t first = vreinterpretq_f64_f32(vaddq_f32(a.low, a.high));
        const float64x2_t second = vreinterpretq_f64_f32(vaddq_f32(b.low, b.high));
        return vaddq_f32(vreinterpretq_f32_f64(vzip1q_f64(first, second)),
                         vreinterpretq_f32_f64(vzip2q_f64(first, second)));
    }
    static float32x4_t scale_by_power(float32x4_t a, float32x4_t power) {
        const int32x4_t whole = vcvtnq_s32_f32(power);
        const int32x4_t half = vshrq_n_s32(whole, 1);
        return vmulq_f32(vmulq_f32(a, power_of_two(half)), power_of_two(vsubq_s32(whole, half)));
    }
    static float32x4_t power_of_two(int32x4_t power) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(power, vdupq_n_s32(127)), 23));
    }
};

}  // namespace
}  // namespace lrengine
