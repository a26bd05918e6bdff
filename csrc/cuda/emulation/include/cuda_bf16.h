// __nv_bfloat16 and __nv_bfloat162; see cuda_fp16.h about rounding.
#pragma once

#include <cstdint>

#include "device/half_conversion.h"
#include "device/narrow_float.h"

struct __nv_bfloat16
    : emulation::NarrowFloat<__nv_bfloat16, emulation::float_to_bfloat16_bits, emulation::bfloat16_bits_to_float> {
    using NarrowFloat::NarrowFloat;
};
struct __nv_bfloat16_raw {
    unsigned short x;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
    __nv_bfloat162() = default;
    constexpr __nv_bfloat162(__nv_bfloat16 first, __nv_bfloat16 second) : x(first), y(second) {}
};
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __double2bfloat16(double value) { return __nv_bfloat16(static_cast<float>(value)); }
inline __nv_bfloat16 __int2bfloat16_rn(int value) { return __nv_bfloat16(static_cast<float>(value)); }
inline float __bfloat162float(__nv_bfloat16 value) { return static_cast<float>(value); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 value) { return static_cast<short>(value.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::from_bits(bits); }
inline __nv_bfloat16 __short_as_bfloat16(short bits) {
    return __nv_bfloat16::from_bits(static_cast<unsigned short>(bits));
}
inline __nv_bfloat162 __float2bfloat162_rn(float value) { return {__nv_bfloat16(value), __nv_bfloat16(value)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float first, float second) {
    return {__nv_bfloat16(first), __nv_bfloat16(second)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return __floats2bfloat162_rn(value.x, value.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
    return {static_cast<float>(value.x), static_cast<float>(value.y)};
}
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 value) { return {value, value}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 first, __nv_bfloat16 second) { return {first, second}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 first, __nv_bfloat16 second) { return {first, second}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 value) { return value.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 value) { return value.y; }
inline float __low2float(__nv_bfloat162 value) { return static_cast<float>(value.x); }
inline float __high2float(__nv_bfloat162 value) { return static_cast<float>(value.y); }

EMULATION_NARROW_ARITHMETIC(__nv_bfloat16, __nv_bfloat162)
