// float32 to and from 16 bits, rounding to nearest even. Written apart from core/dtype.h on purpose: the tests hold the
// two against each other. A NaN becomes CUDA's canonical NaN (0x7fff), as the conversion instructions make it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace emulation {

constexpr std::uint16_t kCanonicalNan = 0x7fff;

constexpr std::uint16_t float_to_bfloat16_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return kCanonicalNan;
    const std::uint32_t kept = bits >> 16, rest = bits & 0xffffu;
    const bool up = rest > 0x8000u || (rest == 0x8000u && (kept & 1u));
    return static_cast<std::uint16_t>(kept + (up ? 1u : 0u));  // a carry into the exponent is the right rounding
}

constexpr float bfloat16_bits_to_float(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

constexpr std::uint16_t float_to_half_bits(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return kCanonicalNan;
    const int exponent = static_cast<int>(magnitude >> 23) - 127;
    if (exponent > 15) return sign | 0x7c00u;
    if (exponent < -25) return sign;
    // The significand with its hidden bit, from which `drop` low bits go: 13 for normal halves, more below 2^-14.
    const std::uint32_t significand = (magnitude & 0x7fffffu) | (magnitude >> 23 ? 0x800000u : 0u);
    const int drop = exponent >= -14 ? 13 : -1 - exponent;
    const std::uint32_t kept = significand >> drop, rest = significand & ((1u << drop) - 1u), tie = 1u << (drop - 1);
    const std::uint32_t rounded = kept + ((rest > tie || (rest == tie && (kept & 1u))) ? 1u : 0u);
    // The hidden bit of `rounded` adds one to the exponent field, hence 14 and not 15.
    const std::uint32_t field = exponent >= -14 ? static_cast<std::uint32_t>(exponent + 14) << 10 : 0u;
    return static_cast<std::uint16_t>(sign | (field + rounded));
}

constexpr float half_bits_to_float(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t exponent = (bits >> 10) & 0x1fu, fraction = bits & 0x3ffu;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
    if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (fraction << 13));
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
}

}  // namespace emulation
