// config.json files of each model type with small numbers, and ways to change one field of them.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "model_files.h"
#include "models/config.h"

namespace config_files {

using nlohmann::json;

inline json xlm_roberta() {
    return json::parse(
        R"({"model_type": "xlm-roberta", "num_hidden_layers": 3, "hidden_size": 72, "num_attention_heads": 3,
        "intermediate_size": 90, "vocab_size": 331, "type_vocab_size": 1, "max_position_embeddings": 66, "pad_token_id": 1,
        "layer_norm_eps": 1e-5, "hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": false})");
}

inline json bert() {
    json fields = xlm_roberta();
    fields.update({{"model_type", "bert"}, {"pad_token_id", 0}, {"type_vocab_size", 2}, {"layer_norm_eps", 1e-12}});
    return fields;
}

inline json mt5() {
    return json::parse(R"({"model_type": "mt5", "num_layers": 2, "d_model": 40, "num_heads": 3, "d_kv": 16, "d_ff": 56,
        "vocab_size": 300, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu", "pad_token_id": 0,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "tie_word_embeddings": false})");
}

inline json m2m100() {
    return json::parse(R"({"model_type": "m2m_100", "encoder_layers": 2, "d_model": 64, "encoder_attention_heads": 4,
        "encoder_ffn_dim": 96, "vocab_size": 300, "max_position_embeddings": 1024, "activation_function": "relu",
        "scale_embedding": true, "pad_token_id": 1})");
}

inline json llama() {
    return json::parse(R"({"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 112, "vocab_size": 400,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu", "attention_bias": false,
        "mlp_bias": false, "tie_word_embeddings": true, "rope_theta": 10000.0, "rope_scaling": null,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})");
}

inline json qwen2() {
    json fields = llama();
    fields.update({{"model_type", "qwen2"},
                   {"use_sliding_window", false},
                   {"sliding_window", nullptr},
                   {"max_window_layers", 28},
                   {"layer_types", {"full_attention", "full_attention"}}});
    for (const char* name : {"attention_bias", "mlp_bias", "head_dim"}) fields.erase(name);
    return fields;
}

inline json swcm() {
    json fields = json::parse(R"({"model_type": "swcm", "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 0, "vocab_size": 331, "normal_layer_interval": 3, "normal_after_last": true,
        "norm_style": "post", "sharing": "init", "tie_word_embeddings": true, "output_bias": false,
        "decoder_layer_norm_eps": 1e-5})");
    fields["encoder"] = xlm_roberta();
    return fields;
}

inline json fusion(const json& encoder = mt5(), const json& llm = llama()) {
    json fields =
        json::parse(R"({"model_type": "layer_fusion", "bos_token_id": 1, "pad_token_id": null, "eos_token_id": [2, 5],
        "mixer": {"type": "transformer", "temperature_base": 100.0, "temperature_factor": 1e5, "ffn_dim": 48,
                  "layer_norm_eps": 1e-5, "dropout": 0.1, "add_global": false},
        "mapper": {"type": "linear"}})");
    fields["encoder"] = encoder;
    fields["llm"] = llm;
    return fields;
}

inline json classifier(const json& encoder = xlm_roberta()) {
    json fields =
        json::parse(R"({"model_type": "layer_fusion_classifier", "mixer": {"type": "global"}, "pooling": "mean",
        "classifier_dropout": 0.1, "id2label": {"0": "no", "1": "yes", "2": "maybe"}})");
    fields["encoder"] = encoder;
    return fields;
}

// `fields` with the value at a JSON pointer ("/encoder/hidden_size") set, or taken away.
inline json with(json fields, const std::string& place, const json& value) {
    fields[json::json_pointer(place)] = value;
    return fields;
}

inline json without(json fields, const std::string& place) {
    const json::json_pointer pointer(place);
    fields[pointer.parent_pointer()].erase(pointer.back());
    return fields;
}

inline lrengine::ModelConfig read_text(const std::string& text) {
    const model_files::TemporaryDirectory directory;
    directory.write("config.json", text);
    return lrengine::read_config(directory.path());
}

inline lrengine::ModelConfig read(const json& fields) { return read_text(fields.dump()); }

}  // namespace config_files
