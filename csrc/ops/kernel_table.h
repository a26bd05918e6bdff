// The table of kernels of one instruction set.
#pragma once

#include "ops/attention_kernels.h"
#include "ops/cpu_kernels.h"
#include "ops/linear_kernels.h"
#include "ops/row_kernels.h"

namespace lrengine {
namespace {

template <class V>
constexpr CpuKernels kernel_table() {
    return {
        .linear_scratch = linear_scratch<V>,
        .linear = linear<V>,
        .tile_rows = V::kTileRows,
        .attention = attention<V>,
        .softmax = softmax<V>,
        .norm = norm<V>,
        .gated = gated<V>,
        .add = add<V>,
        .widen = widen<V>,
        .dots = dots<V>,
        .weighted_sum = weighted_sum<V>,
        .find_greater = find_greater<V>,
        .exp_sum = exp_sum<V>,
    };
}

}  // namespace
}  // namespace lrengine
