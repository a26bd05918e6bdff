// Encoders' Hugging Face configs: BertConfig and its kin, T5Config and its kin, M2M100Config.
#include <cmath>

#include "core/error.h"
#include "models/config_parts.h"

namespace lrengine {

namespace {

// M2M100 has no position table in its file: nothing but this keeps a config from asking for any amount of memory.
constexpr std::int64_t kLargestComputedTable = std::int64_t{1} << 28;

// Heads that share the width evenly.
void read_heads(const JsonValue& fields, const char* name, EncoderConfig& config) {
    config.heads = read_size(fields, name, kLargestWidth);
    if (config.width % config.heads != 0) {
        fields.at(name).refuse("a divisor of the width " + std::to_string(config.width));
    }
    config.head_dim = config.width / config.heads;
}

void read_pad_id(const JsonValue& fields, EncoderConfig& config) {
    config.pad_id = fields.at("pad_token_id").integer(0, config.vocab - 1);
}

EncoderConfig read_bert(const JsonValue& fields, const std::string& model_type) {
    EncoderConfig config{.kind = EncoderKind::kBert, .model_type = model_type};
    config.layers = read_size(fields, "num_hidden_layers", kMostLayers);
    config.width = read_size(fields, "hidden_size", kLargestWidth);
    read_heads(fields, "num_attention_heads", config);
    config.ffn = read_size(fields, "intermediate_size", kLargestWidth);
    config.vocab = read_size(fields, "vocab_size", kLargestVocab);
    config.type_vocab = read_size(fields, "type_vocab_size", kLargestVocab);
    config.eps = read_epsilon(fields.at("layer_norm_eps"));
    config.activation = read_activation(fields.at("hidden_act"));
    if (const auto positions = fields.find("position_embedding_type"); positions && positions->text() != "absolute") {
        positions->refuse_unsupported("absolute");
    }
    if (const auto decoder = fields.find("is_decoder"); decoder && decoder->boolean()) {
        decoder->refuse_unsupported("false: an encoder that sees both ways");
    }
    config.position_rows = read_size(fields, "max_position_embeddings", kMostSourceTokens);
    if (model_type == "bert") {
        if (fields.find("pad_token_id")) read_pad_id(fields, config);
    } else {
        read_pad_id(fields, config);
        config.position_offset = config.pad_id + 1;
    }
    config.max_positions = config.position_rows - config.position_offset;
    if (config.max_positions < 1) {
        fields.at("max_position_embeddings")
            .refuse("more than pad_token_id + 1 = " + std::to_string(config.position_offset));
    }
    return config;
}

// "relu", "gated-gelu", "gated-silu": T5Config.__init__ reads it so, and "gated-gelu" as the tanh form.
void read_feed_forward(const JsonValue& fields, EncoderConfig& config) {
    const JsonValue field = fields.at("feed_forward_proj");
    const std::string text = field.text();
    const std::string activation = text.starts_with("gated-") ? text.substr(6) : text;
    config.gated = activation != text;
    if (text == "gated-gelu" || activation == "gelu_new" || activation == "gelu_pytorch_tanh") {
        config.activation = Activation::kGeluTanh;
    } else if (activation == "gelu") {
        config.activation = Activation::kGelu;
    } else if (activation == "relu") {
        config.activation = Activation::kRelu;
    } else if (activation == "silu" || activation == "swish") {
        config.activation = Activation::kSilu;
    } else {
        field.refuse_unsupported("relu, gelu, gelu_new, silu, or one of them after gated-");
    }
}

EncoderConfig read_t5(const JsonValue& fields, const std::string& model_type) {
    EncoderConfig config{.kind = EncoderKind::kT5, .model_type = model_type};
    config.layers = read_size(fields, "num_layers", kMostLayers);
    config.width = read_size(fields, "d_model", kLargestWidth);
    config.heads = read_size(fields, "num_heads", kLargestWidth);
    config.head_dim = read_size(fields, "d_kv", kLargestWidth);
    config.ffn = read_size(fields, "d_ff", kLargestWidth);
    config.vocab = read_size(fields, "vocab_size", kLargestVocab);
    config.eps = read_epsilon(fields.at("layer_norm_epsilon"));
    if (fields.find("pad_token_id")) read_pad_id(fields, config);
    read_feed_forward(fields, config);
    config.bias_per_layer = model_type == "umt5";
    // Both directions take half of the buckets, and half of those grow with the logarithm of the distance.
    config.bias_buckets = fields.at("relative_attention_num_buckets").integer(4, kLargestWidth);
    if (config.bias_buckets % 2 != 0) fields.at("relative_attention_num_buckets").refuse("an even number");
    config.bias_max_distance =
        fields.at("relative_attention_max_distance").integer(config.bias_buckets / 4 + 1, kMostPositions);
    return config;
}

EncoderConfig read_m2m100(const JsonValue& fields, const std::string& model_type) {
    EncoderConfig config{.kind = EncoderKind::kM2M100, .model_type = model_type};
    config.layers = read_size(fields, "encoder_layers", kMostLayers);
    config.width = fields.at("d_model").integer(4, kLargestWidth);  // its position formula divides by width / 2 - 1
    read_heads(fields, "encoder_attention_heads", config);
    config.ffn = read_size(fields, "encoder_ffn_dim", kLargestWidth);
    config.vocab = read_size(fields, "vocab_size", kLargestVocab);
    config.max_positions = read_size(fields, "max_position_embeddings", kMostSourceTokens);
    if (config.max_positions > kLargestComputedTable / config.width) {
        fields.at("max_position_embeddings").refuse("a table of positions of at most 2^28 numbers");
    }
    config.activation = read_activation(fields.at("activation_function"));
    config.eps = 1e-5f;  // torch.nn.LayerNorm's own: the config has no field for it
    read_pad_id(fields, config);
    config.position_offset = config.pad_id + 1;
    if (fields.at("scale_embedding").boolean()) config.embedding_scale = std::sqrt(static_cast<float>(config.width));
    return config;
}

}  // namespace

EncoderConfig read_encoder_config(const JsonValue& fields) {
    const JsonValue field = fields.at("model_type");
    const std::string type = field.text();
    if (type == "bert" || type == "xlm-roberta" || type == "roberta" || type == "camembert") {
        return read_bert(fields, type);
    }
    if (type == "t5" || type == "mt5" || type == "umt5") return read_t5(fields, type);
    if (type == "m2m_100") return read_m2m100(fields, type);
    field.refuse_unsupported("bert, xlm-roberta, roberta, camembert, t5, mt5, umt5 or m2m_100");
}

}  // namespace lrengine
