// Single elements of stored weights, for kernels in which they are few.
#pragma once

#include "cuda/device.cuh"

namespace lrengine::cuda {

struct WeightView {
    const void* data;
    const float* scales;  // int8: one a row
    std::int64_t cols;
    DType dtype;
};

inline WeightView view_of(const Weight& weight) {
    return {weight.data, weight.dtype == DType::kInt8 ? weight.scales : nullptr, weight.cols, weight.dtype};
}

// As stored: an int8 is not scaled.
__device__ __forceinline__ float load_stored(const WeightView& weight, std::int64_t row, std::int64_t col) {
    const std::int64_t index = row * weight.cols + col;
    if (weight.dtype == DType::kInt8) return static_cast<float>(static_cast<const signed char*>(weight.data)[index]);
    return load_element(weight.data, weight.dtype, index);
}

__device__ __forceinline__ float scale_of(const WeightView& weight, std::int64_t row) {
    return weight.scales != nullptr ? weight.scales[row] : 1.0f;
}

}  // namespace lrengine::cuda
