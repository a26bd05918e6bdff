// out = activation(x W^T + bias) + residual
#pragma once

#include "core/tensor.h"
#include "ops/activation.h"

namespace lrengine {

// x [M, K], weight [N, K], bias [N] or null, residual [M, N] or null (may be the same memory as out), out [M, N].
// Accumulation in float32. On the CPU every out[m, n] is summed in an order that depends on K alone: not on M, on the
// number of threads, or on what else is in the batch, so results are bitwise equal alone and in any batch.
struct LinearArgs {
    Matrix x;
    Weight weight;
    Vector bias;
    Matrix residual;
    Matrix out;
    Activation activation = Activation::kNone;
};

}  // namespace lrengine
