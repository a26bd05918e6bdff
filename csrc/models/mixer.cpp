#include "models/mixer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "models/host_copy.h"

namespace lrengine {

namespace {

// A logit whose weight is 0 in float32, and which no arithmetic turns into a NaN.
constexpr float kNever = -1e30f;

// States that the transformer form's attention reads at a time at least: see mixer.h.
constexpr std::int64_t kFewestAttended = 4;

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

LayerMixArgs FusedTokens::mix() const {
    return {states.data(), static_cast<std::int64_t>(states.size()), logits, tokens, {}, first};
}

Matrix FusedTokens::make(Backend& backend) const {
    if (!states.empty()) backend.layer_mix(mix());
    return tokens;
}

void FusedTokens::multiply(Backend& backend, const LinearArgs& product) const {
    if (states.empty()) return backend.linear(product);
    backend.mixed_linear({mix(), product});
}

Mixer::Mixer(const MixerConfig& config, const EncoderConfig& encoder, WeightLoader& loader, Backend& backend,
             WeightStorage& storage)
    : kind_(config.kind), layers_(encoder.layers), width_(encoder.width) {
    if (kind_ == MixerKind::kTransformer) {
        attention_ = fold_mixer_attention(layers_, width_, loader, backend, storage);
        norm1_ = load_layer_norm(loader, "mixer.norm1", width_, config.eps);
        norm2_ = load_layer_norm(loader, "mixer.norm2", width_, config.eps);
        ffn_.in = load_dense(loader, "mixer.linear1", config.ffn, width_, Bias::kPresent);
        ffn_.out = load_dense(loader, "mixer.linear2", width_, config.ffn, Bias::kPresent);
        ffn_.activation = Activation::kRelu;
        output_ = load_dense(loader, "mixer.output", layers_, width_, Bias::kPresent);
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

std::int64_t Mixer::states_in_cache(const Workspace& work, std::int64_t rows) const {
    const std::size_t state_bytes = static_cast<std::size_t>(rows * width_) * size_of(work.backend.residual_dtype());
    return static_cast<std::int64_t>(work.backend.cache_bytes() / 2 / std::max<std::size_t>(state_bytes, 1));
}

FusedTokens Mixer::fuse(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                        const PackedRows& rows) const {
    switch (kind_) {
        case MixerKind::kGlobal:
            return mix_globally(work, encoder, sources, rows);
        case MixerKind::kTransformer:
            return mix_per_token(work, encoder, sources, rows);
        default:
            return {encoder.run(work, sources, rows).back()};
    }
}

Matrix Mixer::layer_weights(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                            const PackedRows& rows) const {
    const Matrix weights = work.floats(rows.rows(), layers_);
    if (rows.rows() == 0) return weights;
    const ArenaScope scope(work.arena);
    FusedTokens fused{work.residual(rows.rows(), width_)};
    if (kind_ == MixerKind::kTransformer) {
        fused = mix_per_token(work, encoder, sources, rows);
    } else {
        // The same for every token, whatever its states.
        fused.states.assign(static_cast<std::size_t>(layers_), encoder.run(work, sources, rows).back());
        fused.logits = constant_logits_;
    }
    LayerMixArgs mix = fused.mix();
    mix.weights = weights;
    work.backend.layer_mix(mix);
    return weights;
}

FusedTokens Mixer::mix_globally(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                                const PackedRows& rows) const {
    FusedTokens fused{.tokens = work.residual(rows.rows(), width_), .logits = constant_logits_};
    const auto mix = [&](std::int64_t first, std::span<const Matrix> states) {
        fused.first = first;
        fused.states.assign(states.begin(), states.end());
        const bool last = first + static_cast<std::int64_t>(states.size()) == layers_;
        if (!last) work.backend.layer_mix(fused.mix());
    };
    const std::int64_t at_once = std::clamp<std::int64_t>(states_in_cache(work, rows.rows()), 1, layers_);
    encoder.run(work, sources, rows, {.kept = at_once, .at_once = at_once, .read = mix});
    return fused;
}

FusedTokens Mixer::mix_per_token(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                                 const PackedRows& rows) const {
    const Matrix z = work.residual(rows.rows(), width_), running = work.floats(rows.rows(), 2);
    const auto attend = [&](std::int64_t first, std::span<const Matrix> states) {
        work.backend.mixer_attention({.states = states.data(),
                                      .layers = static_cast<std::int64_t>(states.size()),
                                      .key = attention_.key,
                                      .score_bias = attention_.score_bias,
                                      .positions = attention_.positions,
                                      .cls = attention_.cls,
                                      .z = z,
                                      .first = first,
                                      .running = running});
    };
    const std::int64_t fitting = states_in_cache(work, rows.rows());
    const std::int64_t at_once = fitting < kFewestAttended ? layers_ : std::min(fitting, layers_);
    std::vector<Matrix> states =
        encoder.run(work, sources, rows, {.kept = layers_, .at_once = at_once, .read = attend});
    if (rows.rows() == 0) return {work.residual(0, width_)};
    const Matrix logits = token_logits(work, z);
    return {z, std::move(states), logits};  // nobody reads z any more: the tokens go to its place
}

// x = LN1(c + Wo (Wv z + bv) + bo); x = LN2(x + W2 relu(W1 x + b1) + b2); logits = W x + b.
Matrix Mixer::token_logits(const Workspace& work, const Matrix& z) const {
    const Matrix logits = work.floats(z.rows, layers_);
    const ArenaScope scope(work.arena);
    const Matrix x = work.residual(z.rows, z.cols);
    work.backend.linear(product(z, attention_.value, x));
    normalize(work.backend, x, norm1_, x);
    feed_forward(work, x, ffn_, x, x);
    normalize(work.backend, x, norm2_, x);
    work.backend.linear(product(x, output_, logits));
    return logits;
}

}  // namespace lrengine
