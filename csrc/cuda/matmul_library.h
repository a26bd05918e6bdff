// The products of many rows: cuBLASLt, found at run time so that this library loads without it.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "core/tensor.h"
#include "ops/activation.h"

namespace lrengine::cuda {

// out = x W^T (+ bias) (+ previous out, when `accumulate`). x and weight have one type, float32, bfloat16 or float16;
// out is float32 or that type. Accumulation in float32 (float32 inputs: true float32, no TF32).
struct MatmulArgs {
    Matrix x;       // [M, K]
    Weight weight;  // [N, K], not quantised
    Vector bias;    // [N] or null
    Matrix out;     // [M, N]
    bool accumulate = false;
    Activation activation = Activation::kNone;  // only one for which fuses() is true
};

class MatmulLibrary {
public:
    virtual ~MatmulLibrary() = default;

    // The library applies this activation after the bias by itself.
    virtual bool fuses(Activation activation) const = 0;
    // Thread-safe. Throws Error(kDevice).
    virtual void run(const MatmulArgs& args, cudaStream_t stream) = 0;
};

// Throws Error(kDevice) naming what was looked for: LRENGINE_CUBLASLT, or libcublasLt.so.13 / .so.12 where the dynamic
// loader looks. In an emulated build: a plain product.
std::unique_ptr<MatmulLibrary> load_matmul_library();

}  // namespace lrengine::cuda
