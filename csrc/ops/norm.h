// LayerNorm: (x - mean) / sqrt(var + eps) * weight + bias.  RMSNorm: x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include "core/tensor.h"

namespace lrengine {

enum class NormKind { kLayerNorm, kRmsNorm };

// x [M, D], weight [D], bias [D] or null, out [M, D] (may be x). Statistics in float32 (variance from centred values).
struct NormArgs {
    Matrix x;
    Vector weight;
    Vector bias;
    NormKind kind = NormKind::kLayerNorm;
    float eps = 1e-5f;
    Matrix out;
};

}  // namespace lrengine
