// Element types of stored weights into those a product reads, and the checks of their values. Sources need no
// alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace lrengine {

// True when the weight loader reads this type as numbers: float32, float16, bfloat16.
bool is_weight_float(DType dtype);

// No NaN and no Inf among `count` elements of a float type; for kInt8: no -128, which symmetric quantisation never
// writes and products that negate int8 could not hold. Every kUInt8 is two levels of int4.
bool values_are_sound(const void* source, DType dtype, std::int64_t count);

// `destination.size()` elements of a float type, exactly.
void to_float(const void* source, DType dtype, std::span<float> destination);

// kFloat32, kFloat16 or kBFloat16 at `destination`, rounded to nearest even.
void from_float(std::span<const float> source, DType dtype, void* destination);

// Symmetric int8: scale = max |row| / 127, value = round-half-even(x / scale); a row of zeros has scale 0.
// Returns the scale.
float quantize_row(std::span<const float> row, std::int8_t* destination);

// destination[i] = scale * source[i]
void dequantize_row(const std::int8_t* source, float scale, std::span<float> destination);

}  // namespace lrengine
