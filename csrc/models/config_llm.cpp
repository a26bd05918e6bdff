// LLMs' Hugging Face configs: LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config.
#include <algorithm>

#include "core/error.h"
#include "models/config_parts.h"

namespace lrengine {

namespace {

bool is_qwen(const LlmConfig& config) { return config.model_type == "qwen2" || config.model_type == "qwen3"; }

void read_heads(const JsonValue& fields, LlmConfig& config) {
    const JsonValue heads = fields.at("num_attention_heads");
    config.heads = heads.integer(1, kLargestWidth);
    const auto kv_heads = fields.find("num_key_value_heads");
    config.kv_heads = kv_heads ? kv_heads->integer(1, config.heads) : config.heads;
    if (config.heads % config.kv_heads != 0)
        kv_heads->refuse("a divisor of the " + std::to_string(config.heads) + " heads");
    // Null or absent: derived, as the four classes do it (Qwen3's default is a number, which a complete config holds).
    if (const auto head_dim = fields.find("head_dim")) {
        config.head_dim = head_dim->integer(2, kLargestWidth);
        if (config.head_dim % 2 != 0) head_dim->refuse("an even number: rotary positions turn pairs");
        return;
    }
    if (config.model_type == "qwen3") fields.at("head_dim").integer(2, kLargestWidth);
    if (config.width % config.heads != 0 || config.width / config.heads % 2 != 0) {
        heads.refuse("a divisor of the width " + std::to_string(config.width) + " that leaves an even head size");
    }
    config.head_dim = config.width / config.heads;
}

// Biases are not fields of Mistral (it has none) and Qwen2 (q, k and v have them, always).
void read_biases(const JsonValue& fields, LlmConfig& config) {
    if (config.model_type == "qwen2") {
        config.attention_bias = true;
    } else if (config.model_type != "mistral") {
        config.attention_bias = fields.at("attention_bias").boolean();
        config.attention_output_bias = config.attention_bias;
    }
    if (config.model_type == "llama") config.mlp_bias = fields.at("mlp_bias").boolean();
}

// Whether any of a Qwen's layers looks through the window: `layer_types`, or every layer from `max_window_layers` on.
bool has_sliding_layer(const JsonValue& fields, std::int64_t layers) {
    const auto types = fields.find("layer_types");
    if (!types) return fields.at("max_window_layers").integer(0, INT64_MAX) < layers;
    const std::vector<JsonValue> list = types->elements();
    if (static_cast<std::int64_t>(list.size()) != layers)
        types->refuse(std::to_string(layers) + " of them, one a layer");
    bool found = false;
    for (const JsonValue& type : list) {
        const std::string name = type.text();
        if (name != "sliding_attention" && name != "full_attention") {
            type.refuse_unsupported("full_attention or sliding_attention");
        }
        found = found || name == "sliding_attention";
    }
    return found;
}

// MistralConfig's default, which null, "no window", replaces and an absent field does not.
constexpr std::int64_t kMistralWindow = 4096;

std::int64_t read_sliding_window(const JsonValue& fields, const LlmConfig& config) {
    if (config.model_type == "llama") return 0;
    if (is_qwen(config)) {
        const auto used = fields.find("use_sliding_window");
        if (!used || !used->boolean() || !has_sliding_layer(fields, config.layers)) return 0;
    }
    const std::vector<std::string> keys = fields.keys();
    if (config.model_type == "mistral" && std::find(keys.begin(), keys.end(), "sliding_window") == keys.end()) {
        return kMistralWindow;
    }
    const auto window = fields.find("sliding_window");
    return window ? window->integer(1, INT64_MAX) : 0;
}

}  // namespace

LlmConfig read_llm_config(const JsonValue& fields) {
    LlmConfig config;
    const JsonValue type = fields.at("model_type");
    config.model_type = type.text();
    if (config.model_type != "llama" && config.model_type != "mistral" && !is_qwen(config)) {
        type.refuse_unsupported("llama, mistral, qwen2 or qwen3");
    }
    config.layers = read_size(fields, "num_hidden_layers", kMostLayers);
    config.width = read_size(fields, "hidden_size", kLargestWidth);
    read_heads(fields, config);
    config.ffn = read_size(fields, "intermediate_size", kLargestWidth);
    config.vocab = read_size(fields, "vocab_size", kLargestVocab);
    config.max_positions = read_size(fields, "max_position_embeddings", kMostPositions);
    config.eps = read_epsilon(fields.at("rms_norm_eps"));
    config.activation = read_activation(fields.at("hidden_act"));
    read_biases(fields, config);
    config.qk_norm = config.model_type == "qwen3";
    config.tied_output = fields.at("tie_word_embeddings").boolean();
    config.sliding_window = read_sliding_window(fields, config);
    Rope rope = read_rope(fields, config.head_dim, config.max_positions);
    config.inv_freq = std::move(rope.inv_freq);
    config.attention_scaling = rope.attention_scaling;
    return config;
}

}  // namespace lrengine
