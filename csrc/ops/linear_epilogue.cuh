// What follows the sums of a product: out = activation(sum * scale + bias) + residual.
#pragma once

#include "cuda/device.cuh"
#include "ops/activation.cuh"

namespace lrengine::cuda {

struct Epilogue {
    const float* scales;  // int8 weight: [N], or null
    const float* bias;    // [N] or null
    MatrixView residual;  // data null when there is none; may be the memory of out
    MatrixView out;
    Activation activation;
    const std::int32_t* out_rows = nullptr;  // row m goes to this row of out; null: to row m
};

__device__ __forceinline__ void finish_output(const Epilogue& epilogue, std::int64_t m, std::int64_t n, float sum) {
    float value = epilogue.scales != nullptr ? sum * epilogue.scales[n] : sum;
    if (epilogue.bias != nullptr) value += epilogue.bias[n];
    value = activate(epilogue.activation, value);
    if (epilogue.residual.data != nullptr) value += load(epilogue.residual, m, n);
    store(epilogue.out, epilogue.out_rows != nullptr ? epilogue.out_rows[m] : m, n, value);
}

}  // namespace lrengine::cuda
