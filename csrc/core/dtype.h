// Element types of stored tensors and of activations.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lrengine {

enum class DType : std::uint8_t {
    kFloat32,
    kFloat16,
    kBFloat16,
    kInt8,
    kUInt8,
    kInt16,
    kInt32,
    kInt64,
    kBool,
    kFloat64,
    kInt4  // two a byte, in groups that share a scale: core/int4_groups.h
};

// Bytes of one element. kInt4 has none: Error(kInternal).
std::size_t size_of(DType dtype);

// "float32", "bfloat16", "int8", ... as the Python API spells them.
std::string_view name_of(DType dtype);

// Parses name_of()'s spelling; throws Error(kInvalidArgument) for anything else.
DType dtype_from_name(std::string_view name);

// IEEE half and bfloat16 as bit patterns; conversions round to nearest even and keep NaN a NaN.
inline float float16_to_float(std::uint16_t bits) {
    // Without branches, so that loops vectorise: as float32 bits the number is 2^112 too small, subnormals included.
    const std::uint32_t magnitude = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
    const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
    const std::uint32_t ones = (bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;  // NaN and Inf
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | ones | sign);
}

std::uint16_t float_to_float16(float value);

inline float bfloat16_to_float(std::uint16_t bits) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t float_to_bfloat16(float value);

}  // namespace lrengine
