// out = activation(x W^T + bias) + residual
#pragma once

#include "core/tensor.h"
#include "ops/activation.h"

namespace lrengine {

// x [M, K], weight [N, K], bias [N] or null, residual [M, N] or null (may be the same memory as out), out [M, N].
// Accumulation in float32. On the CPU every out[m, n] is summed in an order that depends on K and the weight's type
// alone: not on M, on the number of threads, or on what else is in the batch, so results are bitwise equal alone and in
// any batch. Where W is int8 or int4, a CPU rounds x to int8, each 32 columns of a row with a scale of their own (max
// |x| / 127): products of integers, of which it computes several times as many. A row that holds NaN or Inf gives NaN.
// Products of one call that read the same weight may read it together, once for the rows of all.
struct LinearArgs {
    Matrix x;
    Weight weight;
    Vector bias;
    Matrix residual;
    Matrix out;
    Activation activation = Activation::kNone;
};

inline bool same_weight(const LinearArgs& a, const LinearArgs& b) {
    return a.weight.data == b.weight.data && a.weight.dtype == b.weight.dtype && a.weight.rows == b.weight.rows &&
           a.weight.cols == b.weight.cols && a.weight.scales == b.weight.scales &&
           a.weight.group_scales == b.weight.group_scales && a.weight.group_size == b.weight.group_size;
}

}  // namespace lrengine
