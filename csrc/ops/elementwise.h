// Small fused element-wise ops.
#pragma once

#include "core/tensor.h"
#include "ops/activation.h"

namespace lrengine {

// out = activation(gate) * up, all [M, F]; out may be gate or up.
struct GatedArgs {
    Matrix gate, up, out;
    Activation activation = Activation::kSilu;
};

// out = a + b, all [M, D]; out may be a or b.
struct AddArgs {
    Matrix a, b, out;
};

// destination[rows[m]] = source[m] for m < M: writes keys or values into a cache, or packs rows. Rows are distinct.
struct ScatterRowsArgs {
    Matrix source, destination;
    const std::int32_t* rows = nullptr;  // [M]
};

// out[m] = source[rows[m]] for m < M.
struct GatherRowsArgs {
    Matrix source, out;
    const std::int32_t* rows = nullptr;  // [M]
};

// out[b] = mean of the rows of sequence b; zeros for an empty one. x [M, D], out [B, D].
struct MeanPoolArgs {
    Matrix x, out;
    Packing sequences;
};

}  // namespace lrengine
