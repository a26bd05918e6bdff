#include "core/weight_convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace lrengine {

namespace {

// Element `index` of memory of any alignment; compiles to an unaligned (vector) load.
template <typename T>
T load(const void* source, std::size_t index) {
    T value;
    std::memcpy(&value, static_cast<const char*>(source) + index * sizeof(T), sizeof(T));
    return value;
}

// An exponent of all ones means NaN or Inf in every IEEE type and in bfloat16. No early exit: loops vectorise.
template <typename Bits>
bool has_exponent_of_ones(const void* source, std::size_t count, Bits exponent) {
    Bits found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const Bits bits = load<Bits>(source, i) & exponent;
        found |= static_cast<Bits>(bits == exponent);
    }
    return found != 0;
}

bool has_lowest(const void* source, std::size_t count) {
    std::uint8_t found = 0;
    for (std::size_t i = 0; i < count; ++i)
        found |= static_cast<std::uint8_t>(load<std::int8_t>(source, i) == INT8_MIN);
    return found != 0;
}

// To the nearest integer, ties to even, for |value| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
float round_to_even(float value) {
    constexpr float kShift = 12582912.0f;
    return (value + kShift) - kShift;
}

}  // namespace

bool is_weight_float(DType dtype) {
    return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

bool values_are_sound(const void* source, DType dtype, std::int64_t count) {
    const auto elements = static_cast<std::size_t>(count);
    switch (dtype) {
        case DType::kFloat32:
            return !has_exponent_of_ones<std::uint32_t>(source, elements, 0x7f800000u);
        case DType::kFloat16:
            return !has_exponent_of_ones<std::uint16_t>(source, elements, 0x7c00u);
        case DType::kBFloat16:
            return !has_exponent_of_ones<std::uint16_t>(source, elements, 0x7f80u);
        case DType::kInt8:
            return !has_lowest(source, elements);
        case DType::kUInt8:
            return true;
        default:
            fail(ErrorCode::kInternal, "not the element type of a weight");
    }
}

void to_float(const void* source, DType dtype, std::span<float> destination) {
    if (dtype == DType::kFloat32) {
        std::memcpy(destination.data(), source, destination.size_bytes());
    } else if (dtype == DType::kFloat16) {
        for (std::size_t i = 0; i < destination.size(); ++i) {
            destination[i] = float16_to_float(load<std::uint16_t>(source, i));
        }
    } else if (dtype == DType::kBFloat16) {
        for (std::size_t i = 0; i < destination.size(); ++i) {
            destination[i] = bfloat16_to_float(load<std::uint16_t>(source, i));
        }
    } else {
        fail(ErrorCode::kInternal, "not a float type of weights");
    }
}

void from_float(std::span<const float> source, DType dtype, void* destination) {
    if (dtype == DType::kFloat32) {
        std::memcpy(destination, source.data(), source.size_bytes());
        return;
    }
    auto* narrow = static_cast<std::uint16_t*>(destination);
    if (dtype == DType::kFloat16) {
        std::transform(source.begin(), source.end(), narrow, float_to_float16);
    } else if (dtype == DType::kBFloat16) {
        std::transform(source.begin(), source.end(), narrow, float_to_bfloat16);
    } else {
        fail(ErrorCode::kInternal, "not a float type of weights");
    }
}

float quantize_row(std::span<const float> row, std::int8_t* destination) {
    float largest = 0.0f;
    for (const float value : row) largest = std::max(largest, std::fabs(value));
    const float scale = largest / 127.0f;
    if (scale == 0.0f) {
        std::fill_n(destination, row.size(), std::int8_t{0});
        return 0.0f;
    }
    for (std::size_t i = 0; i < row.size(); ++i) {
        const float rounded = round_to_even(row[i] / scale);
        destination[i] = static_cast<std::int8_t>(std::clamp(rounded, -127.0f, 127.0f));
    }
    return scale;
}

void dequantize_row(const std::int8_t* source, float scale, std::span<float> destination) {
    for (std::size_t i = 0; i < destination.size(); ++i) destination[i] = scale * static_cast<float>(source[i]);
}

}  // namespace lrengine
