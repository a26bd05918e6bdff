#include "models/t5_encoder.h"

namespace lrengine {

namespace {

FeedForward load_ffn(const EncoderConfig& config, WeightLoader& loader, const std::string& prefix) {
    FeedForward ffn;
    ffn.activation = config.activation;
    if (config.gated) {
        ffn.gate = load_dense(loader, prefix + "wi_0", config.ffn, config.width, Bias::kNone);
        ffn.in = load_dense(loader, prefix + "wi_1", config.ffn, config.width, Bias::kNone);
    } else {
        ffn.in = load_dense(loader, prefix + "wi", config.ffn, config.width, Bias::kNone);
    }
    ffn.out = load_dense(loader, prefix + "wo", config.width, config.ffn, Bias::kNone);
    return ffn;
}

RelativeBias load_bias(const EncoderConfig& config, WeightLoader& loader, const std::string& attention) {
    const std::string name = attention + "relative_attention_bias.weight";
    return {.table = loader.rows_of(name, config.bias_buckets, config.heads).data,
            .buckets = config.bias_buckets,
            .max_distance = config.bias_max_distance,
            .bidirectional = true};
}

PreNormLayer load_layer(const EncoderConfig& config, const AttentionShape& shape, WeightLoader& loader,
                        std::int64_t index) {
    const std::string prefix = "encoder.encoder.block." + std::to_string(index) + ".";
    const std::string attention = prefix + "layer.0.SelfAttention.";
    const AttentionNames names{attention + "q", attention + "k", attention + "v", attention + "o"};
    PreNormLayer layer;
    layer.attention_norm = load_rms_norm(loader, prefix + "layer.0.layer_norm", config.width, config.eps);
    layer.attention = load_attention(loader, names, shape, config.width, Bias::kNone);
    if (index == 0 || config.bias_per_layer) layer.bias = load_bias(config, loader, attention);
    layer.ffn_norm = load_rms_norm(loader, prefix + "layer.1.layer_norm", config.width, config.eps);
    layer.ffn = load_ffn(config, loader, prefix + "layer.1.DenseReluDense.");
    return layer;
}

}  // namespace

T5Encoder::T5Encoder(const EncoderConfig& config, WeightLoader& loader)
    : Encoder(config), shape_{config.heads, config.heads, config.head_dim, 1.0f} {
    // Two names of one tensor; which one a file keeps depends on who wrote it.
    const std::string shared = "encoder.shared.weight", alias = "encoder.encoder.embed_tokens.weight";
    word_ = loader.embeddings(loader.has(shared) || !loader.has(alias) ? shared : alias, config.vocab, config.width);
    loader.ignore(alias);
    for (std::int64_t i = 0; i < config.layers; ++i) {
        layers_.push_back(load_layer(config, shape_, loader, i));
        if (!config.bias_per_layer) layers_.back().bias = layers_.front().bias;
    }
    final_norm_ = load_rms_norm(loader, "encoder.encoder.final_layer_norm", config.width, config.eps);
}

void T5Encoder::embed(const Workspace& work, const std::int32_t* ids, const std::int32_t*, const Matrix& out) const {
    work.backend.embedding({.ids = ids, .word = word_, .position = {}, .type = {}, .out = out});
}

void T5Encoder::run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                          const Matrix& out) const {
    layers_[static_cast<std::size_t>(layer)].run(work, shape_, x, sequences, out);
}

void T5Encoder::finish(const Workspace& work, const Matrix& last) const {
    normalize(work.backend, last, final_norm_, last);
}

}  // namespace lrengine
