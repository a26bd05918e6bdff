// The two layers with weights of their own that everything is built from: Linear and the norms.
#pragma once

#include <string>

#include "core/weight_loader.h"
#include "ops/backend.h"

namespace lrengine {

// torch.nn.Linear: x W^T + b; b may be absent.
struct Dense {
    Weight weight;  // [outputs, inputs]
    Vector bias;    // [outputs] or null

    std::int64_t outputs() const { return weight.rows; }
};

enum class Bias { kNone, kPresent };

// NAME.weight and, with a bias, NAME.bias.
Dense load_dense(WeightLoader& loader, const std::string& name, std::int64_t outputs, std::int64_t inputs, Bias bias);

struct NormWeights {
    NormKind kind = NormKind::kLayerNorm;
    Vector weight;
    Vector bias;  // null for RMSNorm
    float eps = 1e-5f;
};

NormWeights load_layer_norm(WeightLoader& loader, const std::string& name, std::int64_t width, float eps);
NormWeights load_rms_norm(WeightLoader& loader, const std::string& name, std::int64_t width, float eps);

NormArgs norm_of(const Matrix& x, const NormWeights& norm, const Matrix& out);

// out may be x.
void normalize(Backend& backend, const Matrix& x, const NormWeights& norm, const Matrix& out);

// One product for Backend::linear().
LinearArgs product(const Matrix& x, const Dense& dense, const Matrix& out, const Matrix& residual = {},
                   Activation activation = Activation::kNone);

}  // namespace lrengine
