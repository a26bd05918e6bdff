// The table of kernels of one instruction set.
#pragma once

#include "ops/attention_kernels.h"
#include "ops/cpu_kernels.h"
#include "ops/linear_kernels.h"
#include "ops/rounded_kernels.h"
#include "ops/row_kernels.h"

namespace lrengine {
namespace {

template <class V>
constexpr CpuKernels kernel_table() {
    return {
        .linear_scratch = linear_scratch<V>,
        .linear = linear<V>,
        .rounded_tile_rows = V::kDotRows,
        .rounded_bytes = rounded_bytes<V>,
        .round_rows = round_rows<V>,
        .rounded_scratch = rounded_scratch<V>,
        .rounds_outputs = rounds_outputs<V>,
        .linear_rounded = linear_rounded<V>,
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

// `table` with V's integer products.
template <class V>
CpuKernels with_rounded(CpuKernels table) {
    table.rounded_tile_rows = V::kDotRows;
    table.rounded_bytes = rounded_bytes<V>;
    table.round_rows = round_rows<V>;
    table.rounded_scratch = rounded_scratch<V>;
    table.rounds_outputs = rounds_outputs<V>;
    table.linear_rounded = linear_rounded<V>;
    return table;
}

}  // namespace
}  // namespace lrengine
