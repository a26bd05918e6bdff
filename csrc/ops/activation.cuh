// The activations on the GPU, in float32 and with CUDA's accurate functions (errors of at most 2 ulp: CUDA C++
// Programming Guide, "Mathematical Functions"). NaN goes through.
#pragma once

#include <cuda_runtime.h>

#include "ops/activation.h"

namespace lrengine::cuda {

__device__ __forceinline__ float activate(Activation activation, float x) {
    switch (activation) {
        case Activation::kRelu:
            return x < 0.0f ? 0.0f : x;  // a comparison with NaN is false: NaN stays
        case Activation::kGelu:
            return 0.5f * x * (1.0f + erff(x * 0.707106781f));
        case Activation::kGeluTanh:
            return 0.5f * x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * (x * x * x))));
        case Activation::kSilu:
            return x / (1.0f + expf(-x));
        case Activation::kTanh:
            return tanhf(x);
        default:
            return x;
    }
}

}  // namespace lrengine::cuda
