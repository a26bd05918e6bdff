#include "models/layers.h"

namespace lrengine {

Dense load_dense(WeightLoader& loader, const std::string& name, std::int64_t outputs, std::int64_t inputs, Bias bias) {
    Dense dense;
    dense.weight = loader.matrix(name + ".weight", outputs, inputs);
    if (bias == Bias::kPresent) dense.bias = loader.vector(name + ".bias", outputs);
    return dense;
}

NormWeights load_layer_norm(WeightLoader& loader, const std::string& name, std::int64_t width, float eps) {
    return {NormKind::kLayerNorm, loader.vector(name + ".weight", width), loader.vector(name + ".bias", width), eps};
}

NormWeights load_rms_norm(WeightLoader& loader, const std::string& name, std::int64_t width, float eps) {
    return {NormKind::kRmsNorm, loader.vector(name + ".weight", width), {}, eps};
}

NormArgs norm_of(const Matrix& x, const NormWeights& norm, const Matrix& out) {
    return {.x = x, .weight = norm.weight, .bias = norm.bias, .kind = norm.kind, .eps = norm.eps, .out = out};
}

void normalize(Backend& backend, const Matrix& x, const NormWeights& norm, const Matrix& out) {
    backend.norm(norm_of(x, norm, out));
}

LinearArgs product(const Matrix& x, const Dense& dense, const Matrix& out, const Matrix& residual,
                   Activation activation) {
    return {
        .x = x, .weight = dense.weight, .bias = dense.bias, .residual = residual, .out = out, .activation = activation};
}

}  // namespace lrengine
