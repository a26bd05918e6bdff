// Four float lanes in the compiler's own vector type: SSE2 on any x86-64, NEON on any AArch64, plain code elsewhere.
// In an unnamed namespace for the reason given in simd_avx512.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "ops/simd_types.h"

namespace lrengine {
namespace {

struct Portable {
    typedef float Float __attribute__((vector_size(16)));
    typedef std::int32_t Mask __attribute__((vector_size(16)));
    static constexpr int kWidth = 4;
    // A tile of 2 x 4 dot products: 8 accumulators, 2 inputs and 1 weight in 16 registers.
    static constexpr int kTileRows = 2;

    static Float zero() { return Float{}; }
    static Float set(float value) { return Float{value, value, value, value}; }

    template <typename T>
    static Float load(const T* p) {
        return Float{widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])};
    }
    static Float load(const float* p) {
        Float v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }

    // The first `count` < kWidth elements, then zeros; nothing behind them is touched.
    template <typename T>
    static Float load(const T* p, std::int64_t count) {
        Float v{};
        for (std::int64_t i = 0; i < count; ++i) v[i] = widen(p[i]);
        return v;
    }

    static void store(float* p, Float v) { std::memcpy(p, &v, sizeof v); }
    static void store(float* p, Float v, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) p[i] = v[i];
    }

    static Float add(Float a, Float b) { return a + b; }
    static Float sub(Float a, Float b) { return a - b; }
    static Float mul(Float a, Float b) { return a * b; }
    static Float div(Float a, Float b) { return a / b; }
    // Fused where the machine has it, else rounded twice; one of the two throughout a build.
    static Float fma(Float a, Float b, Float c) {
#ifdef __FP_FAST_FMAF
        return each(a, [&](int i) { return __builtin_fmaf(a[i], b[i], c[i]); });
#else
        return a * b + c;
#endif
    }
    static Float max(Float a, Float b) { return a > b ? a : b; }  // b if either is NaN
    static Float min(Float a, Float b) { return a < b ? a : b; }  // b if either is NaN
    static Float abs(Float a) { return from_bits(to_bits(a) & 0x7fffffff); }
    static Float copy_sign(Float magnitude, Float sign) {
        return from_bits((to_bits(magnitude) & 0x7fffffff) | (to_bits(sign) & kSignBit));
    }
    // To nearest, ties to even, for |a| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
    static Float round(Float a) {
        const Float shift = set(0x1.8p23f);
        return (a + shift) - shift;
    }
    // a * 2^power for integral powers in [-252, 254]: in two steps, because one factor may not be a normal number.
    static Float scale_by_power(Float a, Float power) {
        const Mask whole = __builtin_convertvector(power, Mask);
        const Mask half = whole >> 1;
        return a * from_bits((half + 127) << 23) * from_bits((whole - half + 127) << 23);
    }

    static Mask greater(Float a, Float b) { return a > b; }
    static Float select(Mask mask, Float yes, Float no) { return mask ? yes : no; }
    static unsigned bits(Mask mask) {
        unsigned found = 0;
        for (int i = 0; i < kWidth; ++i) found |= (mask[i] != 0 ? 1u : 0u) << i;
        return found;
    }

    // out[i] = sum of the lanes of the i-th argument, by halves: every sum has the same tree.
    static void sum4(float* out, Float a, Float b, Float c, Float d) {
        out[0] = (a[0] + a[2]) + (a[1] + a[3]);
        out[1] = (b[0] + b[2]) + (b[1] + b[3]);
        out[2] = (c[0] + c[2]) + (c[1] + c[3]);
        out[3] = (d[0] + d[2]) + (d[1] + d[3]);
    }
    // out[i] = largest lane of the i-th argument, where none is NaN.
    static void max4(float* out, Float a, Float b, Float c, Float d) {
        const auto largest = [](Float v) {
            const float low = v[0] > v[1] ? v[0] : v[1], high = v[2] > v[3] ? v[2] : v[3];
            return low > high ? low : high;
        };
        out[0] = largest(a), out[1] = largest(b), out[2] = largest(c), out[3] = largest(d);
    }

    using Int = Mask;
    using DotInput = std::int16_t;
    // A tile of 3 x 2 vectors of integer sums and as many of their totals, 2 weights and 1 input in 16 registers.
    static constexpr int kDotRows = 3;
    static constexpr int kFewRows = 1;  // for the size of the library
    static constexpr int kDotOffset = 0;

    static Int set_int(std::int32_t value) { return Int{value, value, value, value}; }
    static Int load_int(const std::int32_t* p) {
        Int v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store_int(std::int32_t* p, Int v) { std::memcpy(p, &v, sizeof v); }
    static Float to_float(Int v) { return __builtin_convertvector(v, Float); }
    static Int add_int(Int a, Int b) { return a + b; }
    static Int load_weights(const std::int8_t* p, std::int64_t count = 2 * kWidth) {
        std::int16_t wide[2 * kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) wide[i] = p[i];
        Int v;
        std::memcpy(&v, wide, sizeof v);
        return v;
    }
    // Half a block of int4.
    static void split_levels(const std::uint8_t* p, Int& low, Int& high) {
        std::int16_t halves[2][2 * kWidth];
        for (int i = 0; i < 2 * kWidth; ++i) {
            halves[0][i] = static_cast<std::int16_t>(p[i] & 15);
            halves[1][i] = static_cast<std::int16_t>(p[i] >> 4);
        }
        std::memcpy(&low, halves[0], sizeof low);
        std::memcpy(&high, halves[1], sizeof high);
    }
    static void level_inputs(const std::int16_t* x, Int& low, Int& high) {
        std::memcpy(&low, x, sizeof low);
        std::memcpy(&high, x + 16, sizeof high);
    }
    // `count` numbers of 16 bits, then zeros.
    static Int load_pairs(const std::uint16_t* p, std::int64_t count) {
        std::uint16_t padded[2 * kWidth] = {};
        for (std::int64_t i = 0; i < count; ++i) padded[i] = p[i];
        Int v;
        std::memcpy(&v, padded, sizeof v);
        return v;
    }
    // The half of each lane in its upper bits, the rest 0.
    static Int lower_halves(Int v) { return v << 16; }
    static Int upper_halves(Int v) { return v >> 16 << 16; }
    // sums[0], lane i: the sum of the lanes of v[i].
    template <int kLanes>
    static void sum_lanes(const Int (&v)[4], Int (&sums)[1]) {
        static_assert(kLanes == kWidth);
        for (int i = 0; i < 4; ++i) sums[0][i] = v[i][0] + v[i][1] + v[i][2] + v[i][3];
    }
    static Int spread(const std::int16_t* p) {
        std::int32_t pair;
        std::memcpy(&pair, p, sizeof pair);
        return set_int(pair);
    }
    // The two halves of each lane, which of them comes first does not matter.
    static Int dot(Int sum, Int weights, Int x) {
        return sum + (weights >> 16) * (x >> 16) + (weights << 16 >> 16) * (x << 16 >> 16);
    }
    static void store_inputs(std::int16_t* p, Float v) {
        for (int i = 0; i < kWidth; ++i) p[i] = static_cast<std::int16_t>(v[i]);
    }
    static void transpose(Int (&v)[4]) {
        for (int i = 0; i < 4; ++i) {
            for (int j = 0; j < i; ++j) {
                const std::int32_t other = v[i][j];
                v[i][j] = v[j][i];
                v[j][i] = other;
            }
        }
    }

private:
    static constexpr std::int32_t kSignBit = INT32_MIN;

    static Mask to_bits(Float v) { return reinterpret_cast<Mask>(v); }
    static Float from_bits(Mask v) { return reinterpret_cast<Float>(v); }

    static float widen(float value) { return value; }
    static float widen(std::int8_t value) { return static_cast<float>(value); }
    static float widen(BFloat16 value) { return as_float(static_cast<std::uint32_t>(value) << 16); }
    // The exponent is 112 too small after the shift; a product repairs it, for subnormals too. Inf and NaN keep theirs.
    static float widen(Float16 value) {
        const auto bits = static_cast<std::uint32_t>(value);
        const std::uint32_t sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
        if (magnitude >= 0x0f800000u) return as_float(sign | magnitude | 0x7f800000u);
        return as_float(sign | magnitude) * 0x1p112f;
    }
    static float as_float(std::uint32_t bits) {
        float value;
        std::memcpy(&value, &bits, sizeof value);
        return value;
    }
#ifdef __FP_FAST_FMAF
    template <typename Lane>
    static Float each(Float v, Lane lane) {
        for (int i = 0; i < kWidth; ++i) v[i] = lane(i);
        return v;
    }
#endif
};

}  // namespace
}  // namespace lrengine
