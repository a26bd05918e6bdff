// Element types of stored tensors and of activations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace lrengine {

enum class DType : std::uint8_t { kFloat32, kFloat16, kBFloat16, kInt8, kUInt8, kInt16, kInt32, kInt64, kBool, kFloat64 };

// Bytes of one element.
std::size_t size_of(DType dtype);

// "float32", "bfloat16", "int8", ... as the Python API spells them.
std::string_view name_of(DType dtype);

// Parses name_of()'s spelling; throws Error(kInvalidArgument) for anything else.
DType dtype_from_name(std::string_view name);

// IEEE half and bfloat16 as bit patterns; conversions round to nearest even and keep NaN a NaN.
float float16_to_float(std::uint16_t bits);
std::uint16_t float_to_float16(float value);

inline float bfloat16_to_float(std::uint16_t bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    __builtin_memcpy(&value, &wide, sizeof value);
    return value;
}

std::uint16_t float_to_bfloat16(float value);

}  // namespace lrengine
