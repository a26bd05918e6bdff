#include "models/mixer.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/host_copy.h"

namespace lrengine {

namespace {

// A logit whose weight is 0 in float32, and which no arithmetic turns into a NaN.
constexpr float kNever = -1e30f;

// (base + factor * temperature) * layer_logits, computed in double and shifted so that the largest is 0: with the
// published temperatures the logits are too large for float32 to hold their differences.
std::vector<float> global_logits(const MixerConfig& config, std::int64_t layers, WeightLoader& loader,
                                 Backend& backend) {
    const std::vector<float> learned = read_back(loader.vector("mixer.layer_logits", layers), backend);
    const float temperature = read_back(loader.vector("mixer.temperature", 1), backend)[0];
    const double factor = config.temperature_base + config.temperature_factor * static_cast<double>(temperature);
    std::vector<double> logits;
    for (const float value : learned) logits.push_back(factor * static_cast<double>(value));
    const bool finite = std::all_of(logits.begin(), logits.end(), [](double logit) { return std::isfinite(logit); });
    if (!std::isfinite(factor) || !finite) {
        fail(ErrorCode::kModelFile,
             "mixer.layer_logits: not finite once multiplied by (temperature_base + "
             "temperature_factor * mixer.temperature), which is " +
                 std::to_string(factor));
    }
    const double largest = *std::max_element(logits.begin(), logits.end());
    std::vector<float> shifted;
    for (const double logit : logits) shifted.push_back(static_cast<float>(logit - largest));
    return shifted;
}

}  // namespace

Mixer::Mixer(const MixerConfig& config, const EncoderConfig& encoder, WeightLoader& loader, Backend& backend,
             WeightStorage& storage)
    : kind_(config.kind), layers_(encoder.layers) {
    const std::int64_t width = encoder.width;
    if (kind_ == MixerKind::kTransformer) {
        attention_ = fold_mixer_attention(layers_, width, loader, backend, storage);
        norm1_ = load_layer_norm(loader, "mixer.norm1", width, config.eps);
        norm2_ = load_layer_norm(loader, "mixer.norm2", width, config.eps);
        ffn_.in = load_dense(loader, "mixer.linear1", config.ffn, width, Bias::kPresent);
        ffn_.out = load_dense(loader, "mixer.linear2", width, config.ffn, Bias::kPresent);
        ffn_.activation = Activation::kRelu;
        output_ = load_dense(loader, "mixer.output", layers_, width, Bias::kPresent);
        if (config.add_global) {
            std::vector<float> bias = read_back(output_.bias, backend);
            const std::vector<float> global = global_logits(config, layers_, loader, backend);
            for (std::size_t l = 0; l < bias.size(); ++l) bias[l] += global[l];
            output_.bias = store(bias, backend, storage);
        }
        return;
    }
    std::vector<float> logits(static_cast<std::size_t>(layers_), kNever);
    logits.back() = 0.0f;
    if (kind_ == MixerKind::kGlobal) logits = global_logits(config, layers_, loader, backend);
    const Vector stored = store(logits, backend, storage);
    constant_logits_ = {const_cast<float*>(stored.data), DType::kFloat32, 1, layers_, layers_};
}

Matrix Mixer::fuse(const Workspace& work, std::span<const Matrix> states) const {
    return kind_ == MixerKind::kLast ? states.back() : mix(work, states).fused;
}

Matrix Mixer::layer_weights(const Workspace& work, std::span<const Matrix> states) const {
    if (kind_ != MixerKind::kLast) return mix(work, states).weights;
    const std::vector<Matrix> repeated(static_cast<std::size_t>(layers_), states.back());
    return mix(work, repeated).weights;
}

Mixer::Mixed Mixer::mix(const Workspace& work, std::span<const Matrix> states) const {
    const Matrix& last = states.back();
    const Mixed mixed{work.residual(last.rows, last.cols), work.floats(last.rows, layers_)};
    if (last.rows == 0) return mixed;
    const ArenaScope scope(work.arena);
    work.backend.layer_mix({.states = states.data(),
                            .layers = layers_,
                            .logits = kind_ == MixerKind::kTransformer ? token_logits(work, states) : constant_logits_,
                            .fused = mixed.fused,
                            .weights = mixed.weights});
    return mixed;
}

// x = LN1(c + Wo (Wv z + bv) + bo); x = LN2(x + W2 relu(W1 x + b1) + b2); logits = W x + b.
Matrix Mixer::token_logits(const Workspace& work, std::span<const Matrix> states) const {
    const Matrix& last = states.back();
    const Matrix logits = work.floats(last.rows, layers_);
    const ArenaScope scope(work.arena);
    const Matrix z = work.residual(last.rows, last.cols), x = work.residual(last.rows, last.cols);
    work.backend.mixer_attention({.states = states.data(),
                                  .layers = layers_,
                                  .key = attention_.key,
                                  .score_bias = attention_.score_bias,
                                  .positions = attention_.positions,
                                  .cls = attention_.cls,
                                  .z = z});
    work.backend.linear(product(z, attention_.value, x));
    normalize(work.backend, x, norm1_, x);
    feed_forward(work, x, ffn_, x, x);
    normalize(work.backend, x, norm2_, x);
    work.backend.linear(product(x, output_, logits));
    return logits;
}

}  // namespace lrengine
