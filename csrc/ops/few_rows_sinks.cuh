// Where the sums of products of few rows go: the sinks that several kernels share.
#pragma once

#include "ops/linear_epilogue.cuh"
#include "ops/linear_few_rows.cuh"

namespace lrengine::cuda {

// To each product's own output.
struct StoreOutputs {
    static constexpr bool kTakesNorm = true;
    static constexpr bool kTakesPair = false;

    __device__ void take(const Product& product, int m, int n, float sum) const {
        finish_output(
            {product.scales, product.bias, product.residual, product.out, product.activation, product.out_rows}, m, n,
            sum);
    }
    __device__ void end_tile(int) const {}
};

// The same where there is no norm before the products.
struct StorePlainOutputs : StoreOutputs {
    static constexpr bool kTakesNorm = false;
};

// Of a pair, gate and up: activation(gate) * up to the gate's output.
struct StoreGated {
    static constexpr bool kTakesNorm = true;
    static constexpr bool kTakesPair = true;

    const Product& up;
    Activation activation;

    __device__ void take(const Product& gate, int m, int n, float gate_sum, float up_sum) const {
        const float opened = activate(activation, value_of(gate_sum, gate.scales, gate.bias, n));
        store(gate.out, m, n, opened * value_of(up_sum, up.scales, up.bias, n));
    }
    __device__ void end_tile(int) const {}
};

}  // namespace lrengine::cuda
