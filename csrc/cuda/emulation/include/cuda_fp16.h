// __half and __half2: conversions round to nearest even; arithmetic is done in float32 and rounded once, which gives
// the correctly rounded half result for + - * / and sqrt (float32 carries more than twice the bits of a half).
#pragma once

#include <cstdint>

#include "device/half_conversion.h"
#include "device/narrow_float.h"

struct __half : emulation::NarrowFloat<__half, emulation::float_to_half_bits, emulation::half_bits_to_float> {
    using NarrowFloat::NarrowFloat;
};
struct __half_raw {
    unsigned short x;
};
struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    constexpr __half2(__half first, __half second) : x(first), y(second) {}
};
using half = __half;
using half2 = __half2;

inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline __half __double2half(double value) { return __half(static_cast<float>(value)); }
inline __half __int2half_rn(int value) { return __half(static_cast<float>(value)); }
inline float __half2float(__half value) { return static_cast<float>(value); }
inline int __half2int_rn(__half value) { return static_cast<int>(std::nearbyint(static_cast<float>(value))); }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline short __half_as_short(__half value) { return static_cast<short>(value.bits); }
inline __half __ushort_as_half(unsigned short bits) { return __half::from_bits(bits); }
inline __half __short_as_half(short bits) { return __half::from_bits(static_cast<unsigned short>(bits)); }
inline __half2 __float2half2_rn(float value) { return {__half(value), __half(value)}; }
inline __half2 __floats2half2_rn(float first, float second) { return {__half(first), __half(second)}; }
inline __half2 __float22half2_rn(float2 value) { return __floats2half2_rn(value.x, value.y); }
inline float2 __half22float2(__half2 value) { return {static_cast<float>(value.x), static_cast<float>(value.y)}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half2 __halves2half2(__half first, __half second) { return {first, second}; }
inline __half2 make_half2(__half first, __half second) { return {first, second}; }
inline __half __low2half(__half2 value) { return value.x; }
inline __half __high2half(__half2 value) { return value.y; }
inline float __low2float(__half2 value) { return static_cast<float>(value.x); }
inline float __high2float(__half2 value) { return static_cast<float>(value.y); }

EMULATION_NARROW_ARITHMETIC(__half, __half2)
inline __half hrsqrt(__half x) { return __half(1.0f / std::sqrt(static_cast<float>(x))); }
inline __half hexp(__half x) { return __half(std::exp(static_cast<float>(x))); }
inline __half hsqrt(__half x) { return __half(std::sqrt(static_cast<float>(x))); }
