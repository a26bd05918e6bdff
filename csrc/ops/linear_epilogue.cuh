// What follows the sums of a product: out = activation(sum * scale + bias) + residual.
#pragma once

#include "cuda/device.cuh"
#include "ops/activation.cuh"

namespace lrengine::cuda {

// The value of output n. `scales`: int8 weight: [N], or null; `bias`: [N] or null.
__device__ __forceinline__ float value_of(float sum, const float* scales, const float* bias, std::int64_t n) {
    const float value = scales != nullptr ? sum * scales[n] : sum;
    return bias != nullptr ? value + bias[n] : value;
}

struct Epilogue {
    const float* scales;  // int8 weight: [N], or null
    const float* bias;    // [N] or null
    MatrixView residual;  // data null when there is none; may be the memory of out
    MatrixView out;
    Activation activation;
    const std::int32_t* out_rows = nullptr;  // row m goes to this row of out; null: to row m
};

__device__ __forceinline__ void finish_output(const Epilogue& epilogue, std::int64_t m, std::int64_t n, float sum) {
    float value = activate(epilogue.activation, value_of(sum, epilogue.scales, epilogue.bias, n));
    if (epilogue.residual.data != nullptr) value += load(epilogue.residual, m, n);
    store(epilogue.out, epilogue.out_rows != nullptr ? epilogue.out_rows[m] : m, n, value);
}

}  // namespace lrengine::cuda
