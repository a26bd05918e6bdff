#include "models/swcm_weights.h"

namespace lrengine {

namespace {

class LayerReader {
public:
    LayerReader(const SwcmConfig& config, const BertEncoder& encoder, WeightLoader& loader)
        : config_(config), encoder_(encoder), loader_(loader) {}

    SwcmLayer custom(std::int64_t encoder_layer, std::size_t position) {
        SwcmLayer layer;
        const std::string prefix = prefix_of(position);
        if (config_.sharing == Sharing::kTied) {
            const BertLayer& source = encoder_.layer(encoder_layer);
            layer.self_attention = layer.cross_attention = source.attention;
            layer.ffn1 = layer.ffn = source.ffn;
        } else {
            layer.self_attention = attention(prefix + "self_attention.");
            layer.cross_attention = attention(prefix + "cross_attention.");
            layer.ffn1 = feed_forward(prefix + "ffn1.");
            layer.ffn = feed_forward(prefix + "ffn2.");
        }
        read_norms(prefix, 4, layer);
        return layer;
    }

    SwcmLayer normal(std::size_t position) {
        SwcmLayer layer;
        layer.custom = false;
        const std::string prefix = prefix_of(position);
        layer.self_attention = attention(prefix + "self_attention.");
        layer.cross_attention = attention(prefix + "cross_attention.");
        layer.ffn = feed_forward(prefix + "ffn.");
        read_norms(prefix, config_.norm_style == NormStyle::kPost ? 3 : 2, layer);
        return layer;
    }

private:
    static std::string prefix_of(std::size_t position) { return "decoder.layers." + std::to_string(position) + "."; }

    AttentionWeights attention(const std::string& prefix) {
        const AttentionNames names{prefix + "q_proj", prefix + "k_proj", prefix + "v_proj", prefix + "out_proj"};
        return load_attention(loader_, names, encoder_.attention_shape(), config_.encoder.width, Bias::kPresent);
    }

    FeedForward feed_forward(const std::string& prefix) {
        const EncoderConfig& encoder = config_.encoder;
        FeedForward ffn;
        ffn.in = load_dense(loader_, prefix + "fc_in", encoder.ffn, encoder.width, Bias::kPresent);
        ffn.out = load_dense(loader_, prefix + "fc_out", encoder.width, encoder.ffn, Bias::kPresent);
        ffn.activation = encoder.activation;
        return ffn;
    }

    void read_norms(const std::string& prefix, std::size_t count, SwcmLayer& layer) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::string name = prefix + "norm" + std::to_string(i + 1);
            layer.norms[i] = load_layer_norm(loader_, name, config_.encoder.width, config_.decoder_eps);
        }
    }

    const SwcmConfig& config_;
    const BertEncoder& encoder_;
    WeightLoader& loader_;
};

}  // namespace

std::vector<SwcmLayer> load_swcm_layers(const SwcmConfig& config, const BertEncoder& encoder, WeightLoader& loader) {
    LayerReader reader(config, encoder, loader);
    std::vector<SwcmLayer> layers;
    const std::int64_t interval = config.normal_layer_interval, count = config.encoder.layers;
    for (std::int64_t i = 0; i < count; ++i) {
        layers.push_back(reader.custom(i, layers.size()));
        const bool due = interval > 0 && (i + 1) % interval == 0;
        if (due && (i + 1 < count || config.normal_after_last)) layers.push_back(reader.normal(layers.size()));
    }
    return layers;
}

}  // namespace lrengine
