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

std::int64_t Mixer::layers_at_once(const Workspace& work, std::int64_t rows) const {
    const std::size_t state_bytes = static_cast<std::size_t>(rows * width_) * size_of(work.backend.residual_dtype());
    const std::size_t fitting = work.backend.cache_bytes() / 2 / std::max<std::size_t>(state_bytes, 1);
    return static_cast<std::int64_t>(std::clamp<std::size_t>(fitting, 1, static_cast<std::size_t>(layers_)));
}

Matrix Mixer::fuse(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                   const PackedRows& rows) const {
    if (kind_ == MixerKind::kLast) return encoder.run(work, sources, rows).back();
    const Matrix fused = work.residual(rows.rows(), width_);
    if (kind_ == MixerKind::kGlobal) {
        mix_globally(work, encoder, sources, rows, fused);
    } else {
        mix_per_token(work, encoder, sources, rows, fused, {});
    }
    return fused;
}

Matrix Mixer::layer_weights(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                            const PackedRows& rows) const {
    const Matrix weights = work.floats(rows.rows(), layers_);
    if (rows.rows() == 0) return weights;
    const ArenaScope scope(work.arena);
    const Matrix fused = work.residual(rows.rows(), width_);
    if (kind_ == MixerKind::kTransformer) {
        mix_per_token(work, encoder, sources, rows, fused, weights);
        return weights;
    }
    // The same for every token, whatever its states.
    const std::vector<Matrix> states(static_cast<std::size_t>(layers_), encoder.run(work, sources, rows).back());
    work.backend.layer_mix({states.data(), layers_, constant_logits_, fused, weights});
    return weights;
}

void Mixer::mix_globally(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                         const PackedRows& rows, const Matrix& fused) const {
    const ArenaScope scope(work.arena);
    const auto mix = [&](std::int64_t first, std::span<const Matrix> states) {
        const auto count = static_cast<std::int64_t>(states.size());
        work.backend.layer_mix({states.data(), count, constant_logits_, fused, {}, first});
    };
    const std::int64_t at_once = layers_at_once(work, rows.rows());
    encoder.run(work, sources, rows, {.kept = at_once, .at_once = at_once, .read = mix});
}

void Mixer::mix_per_token(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                          const PackedRows& rows, const Matrix& fused, const Matrix& weights) const {
    const ArenaScope scope(work.arena);
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
    const std::int64_t at_once = layers_at_once(work, rows.rows());
    const std::vector<Matrix> states =
        encoder.run(work, sources, rows, {.kept = layers_, .at_once = at_once, .read = attend});
    if (rows.rows() == 0) return;
    work.backend.layer_mix({states.data(), layers_, token_logits(work, z), fused, weights});
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
