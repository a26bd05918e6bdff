// Rotary positions, "rotate half" form: for j < d/2, (x_j, x_{j+d/2}) turns by positions[m] * inv_freq[j]; times
// `attention_scaling`.
#pragma once

#include "core/tensor.h"

namespace lrengine {

// x [M, H*d] in place; positions [M]; inv_freq [d/2] (already scaled for Llama 3.x). Angles in float32 as transformers
// has them.
struct RopeArgs {
    Matrix x;
    const std::int32_t* positions = nullptr;
    Vector inv_freq;
    std::int64_t heads = 0;
    std::int64_t head_dim = 0;
    float attention_scaling = 1.0f;
};

}  // namespace lrengine
