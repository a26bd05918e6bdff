// Single elements of stored weights, for kernels in which they are few.
#pragma once

#include "core/int4_groups.h"
#include "cuda/device.cuh"

namespace lrengine::cuda {

struct WeightView {
    const void* data;
    const float* scales;  // int8: one a row
    std::int64_t cols;
    DType dtype;
    const unsigned short* group_scales;  // int4: bfloat16, one for each group of a row
    std::int64_t group_size;
};

inline WeightView view_of(const Weight& weight) {
    return {weight.data,         weight.dtype == DType::kInt8 ? weight.scales : nullptr,
            weight.cols,         weight.dtype,
            weight.group_scales, weight.group_size};
}

__device__ __forceinline__ float bfloat16_of(unsigned short bits) {
    return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

__device__ __forceinline__ float load_int4(const WeightView& weight, std::int64_t row, std::int64_t col) {
    const std::int64_t groups = (weight.cols + weight.group_size - 1) / weight.group_size;
    const std::int64_t byte = row * weight.cols / 2 + col / kInt4Block * (kInt4Block / 2) + col % (kInt4Block / 2);
    const int pair = static_cast<const unsigned char*>(weight.data)[byte];
    const int level = col % kInt4Block < kInt4Block / 2 ? pair & 15 : pair >> 4;
    return bfloat16_of(weight.group_scales[row * groups + col / weight.group_size]) *
           static_cast<float>(level - kInt4Zero);
}

// As stored: an int8 is not scaled, an int4 is.
__device__ __forceinline__ float load_stored(const WeightView& weight, std::int64_t row, std::int64_t col) {
    if (weight.dtype == DType::kInt4) return load_int4(weight, row, col);
    const std::int64_t index = row * weight.cols + col;
    if (weight.dtype == DType::kInt8) return static_cast<float>(static_cast<const signed char*>(weight.data)[index]);
    return load_element(weight.data, weight.dtype, index);
}

__device__ __forceinline__ float scale_of(const WeightView& weight, std::int64_t row) {
    return weight.scales != nullptr ? weight.scales[row] : 1.0f;
}

}  // namespace lrengine::cuda
