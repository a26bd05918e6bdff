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

// An exponent of all ones means NaN or Inf in every IEEE type and in bfloat16: with the sign taken off, one more in the
// exponent then carries into the sign's bit. No early exit, and a cache line at a time in four sums: opening a model
// waits for this and for memory.
template <typename Bits>
bool has_exponent_of_ones(const void* source, std::size_t count, Bits exponent) {
    constexpr std::size_t kLanes = 64 / sizeof(Bits), kSums = 4;
    typedef Bits Line __attribute__((vector_size(64)));
    constexpr Bits kSign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
    const auto magnitude = static_cast<Bits>(~kSign), one_more = static_cast<Bits>(kSign - exponent);
    Line sums[kSums] = {};
    std::size_t i = 0;
    for (; i + kSums * kLanes <= count; i += kSums * kLanes) {
        for (std::size_t part = 0; part < kSums; ++part) {
            Line line;
            std::memcpy(&line, static_cast<const char*>(source) + (i + part * kLanes) * sizeof(Bits), sizeof(line));
            sums[part] |= (line & magnitude) + one_more;
        }
    }
    const Line sum = (sums[0] | sums[1]) | (sums[2] | sums[3]);
    Bits found = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) found |= sum[lane];
    for (; i < count; ++i) found |= static_cast<Bits>((load<Bits>(source, i) & magnitude) + one_more);
    return (found & kSign) != 0;
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
