// Model directories with random weights at odd sizes: an encoder of width 24, and around it what each family adds.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "model_files.h"
#include "models/model.h"

namespace tiny {

inline constexpr std::int64_t kWidth = 24, kHeads = 3, kFfn = 40, kVocab = 53, kLayers = 3, kPositions = 37;
inline constexpr std::int64_t kLlmWidth = 20, kLlmVocab = 41, kLlmPositions = 64;

// Tensors by name, each filled from a generator seeded by its name: the same name always holds the same numbers.
class Directory {
public:
    void matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
        add(name, {rows, cols}, 0.0f, 1.0f / std::sqrt(static_cast<float>(cols)));
    }
    void table(const std::string& name, std::int64_t rows, std::int64_t cols) { add(name, {rows, cols}, 0.0f, 0.5f); }
    void vector(const std::string& name, std::int64_t size) { add(name, {size}, 0.0f, 0.2f); }
    void gain(const std::string& name, std::int64_t size) { add(name, {size}, 1.0f, 0.2f); }
    void linear(const std::string& name, std::int64_t out, std::int64_t in) {
        matrix(name + ".weight", out, in);
        vector(name + ".bias", out);
    }
    void layer_norm(const std::string& name, std::int64_t size) {
        gain(name + ".weight", size);
        vector(name + ".bias", size);
    }
    void set(const std::string& name, std::vector<float> values) { values_[name] = std::move(values); }

    const std::vector<float>& values(const std::string& name) const { return values_.at(name); }
    const std::filesystem::path& path() const { return folder_.path(); }

    // Writes the files; `fields` are the members of config.json.
    void finish(const std::string& fields) {
        fields_ = fields;
        rewrite();
    }
    // The files again, after set().
    void rewrite() const {
        std::vector<model_files::Tensor> tensors;
        for (const auto& [name, values] : values_) {
            tensors.push_back(model_files::float_tensor(name, shapes_.at(name), values));
        }
        folder_.write("model.safetensors", model_files::safetensors_bytes(tensors));
        folder_.write("config.json", "{" + fields_ + "}");
    }

private:
    void add(const std::string& name, std::vector<std::int64_t> shape, float mean, float deviation) {
        std::seed_seq seed(name.begin(), name.end());
        std::mt19937 generator(seed);
        std::normal_distribution<float> normal(mean, deviation);
        std::vector<float> values;
        std::int64_t size = 1;
        for (const std::int64_t dimension : shape) size *= dimension;
        for (std::int64_t i = 0; i < size; ++i) values.push_back(normal(generator));
        values_[name] = std::move(values);
        shapes_[name] = std::move(shape);
    }

    model_files::TemporaryDirectory folder_;
    std::string fields_;
    std::map<std::string, std::vector<float>> values_;
    std::map<std::string, std::vector<std::int64_t>> shapes_;
};

// XLM-RoBERTa: positions from pad + 1 = 2 on, so kPositions - 2 tokens at most.
inline std::string xlm_roberta(Directory& directory, std::int64_t layers = kLayers) {
    const std::string embeddings = "encoder.embeddings.";
    directory.table(embeddings + "word_embeddings.weight", kVocab, kWidth);
    directory.table(embeddings + "position_embeddings.weight", kPositions, kWidth);
    directory.table(embeddings + "token_type_embeddings.weight", 1, kWidth);
    directory.layer_norm(embeddings + "LayerNorm", kWidth);
    for (std::int64_t i = 0; i < layers; ++i) {
        const std::string layer = "encoder.encoder.layer." + std::to_string(i) + ".";
        for (const char* name :
             {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"}) {
            directory.linear(layer + name, kWidth, kWidth);
        }
        directory.layer_norm(layer + "attention.output.LayerNorm", kWidth);
        directory.linear(layer + "intermediate.dense", kFfn, kWidth);
        directory.linear(layer + "output.dense", kWidth, kFfn);
        directory.layer_norm(layer + "output.LayerNorm", kWidth);
    }
    return R"("encoder": {"model_type": "xlm-roberta", "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": )" +
           std::to_string(layers) + R"(,
        "intermediate_size": 40, "vocab_size": 53, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu",
        "max_position_embeddings": 37, "pad_token_id": 1})";
}

inline std::string mt5(Directory& directory) {
    directory.table("encoder.shared.weight", kVocab, kWidth);
    const std::string stack = "encoder.encoder.";
    directory.table(stack + "block.0.layer.0.SelfAttention.relative_attention_bias.weight", 8, kHeads);
    for (std::int64_t i = 0; i < kLayers; ++i) {
        const std::string block = stack + "block." + std::to_string(i) + ".layer.";
        for (const char* name : {"q", "k", "v"}) {
            directory.matrix(block + "0.SelfAttention." + name + ".weight", 15, kWidth);
        }
        directory.matrix(block + "0.SelfAttention.o.weight", kWidth, 15);
        directory.gain(block + "0.layer_norm.weight", kWidth);
        directory.matrix(block + "1.DenseReluDense.wi_0.weight", kFfn, kWidth);
        directory.matrix(block + "1.DenseReluDense.wi_1.weight", kFfn, kWidth);
        directory.matrix(block + "1.DenseReluDense.wo.weight", kWidth, kFfn);
        directory.gain(block + "1.layer_norm.weight", kWidth);
    }
    directory.gain(stack + "final_layer_norm.weight", kWidth);
    return R"("encoder": {"model_type": "mt5", "num_layers": 3, "d_model": 24, "num_heads": 3, "d_kv": 5, "d_ff": 40,
        "vocab_size": 53, "layer_norm_epsilon": 1e-6, "pad_token_id": 0, "feed_forward_proj": "gated-gelu",
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20})";
}

// Qwen3: grouped queries (4 heads, 2 key heads), norms on them, output tied. `window`: its sliding window, or 0.
inline std::string qwen3(Directory& directory, std::int64_t window = 0, std::int64_t head_dim = 6) {
    directory.table("llm.model.embed_tokens.weight", kLlmVocab, kLlmWidth);
    for (std::int64_t i = 0; i < 2; ++i) {
        const std::string layer = "llm.model.layers." + std::to_string(i) + ".";
        directory.gain(layer + "input_layernorm.weight", kLlmWidth);
        directory.gain(layer + "post_attention_layernorm.weight", kLlmWidth);
        directory.matrix(layer + "self_attn.q_proj.weight", 4 * head_dim, kLlmWidth);
        directory.matrix(layer + "self_attn.k_proj.weight", 2 * head_dim, kLlmWidth);
        directory.matrix(layer + "self_attn.v_proj.weight", 2 * head_dim, kLlmWidth);
        directory.matrix(layer + "self_attn.o_proj.weight", kLlmWidth, 4 * head_dim);
        directory.gain(layer + "self_attn.q_norm.weight", head_dim);
        directory.gain(layer + "self_attn.k_norm.weight", head_dim);
        directory.matrix(layer + "mlp.gate_proj.weight", 28, kLlmWidth);
        directory.matrix(layer + "mlp.up_proj.weight", 28, kLlmWidth);
        directory.matrix(layer + "mlp.down_proj.weight", kLlmWidth, 28);
    }
    directory.gain("llm.model.norm.weight", kLlmWidth);
    const std::string sliding =
        window == 0
            ? R"("use_sliding_window": false)"
            : R"("use_sliding_window": true, "max_window_layers": 0, "sliding_window": )" + std::to_string(window);
    return R"("llm": {"model_type": "qwen3", "num_hidden_layers": 2, "hidden_size": 20, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 28, "vocab_size": 41, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 64, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": true,
        "rope_theta": 10000.0, "head_dim": )" +
           std::to_string(head_dim) + ", " + sliding + "}";
}

inline std::string transformer_mixer(Directory& directory, std::int64_t layers = kLayers) {
    directory.table("mixer.position_embeddings", layers, kWidth);
    directory.vector("mixer.cls", kWidth);
    directory.matrix("mixer.attention.in_proj_weight", 3 * kWidth, kWidth);
    directory.vector("mixer.attention.in_proj_bias", 3 * kWidth);
    directory.linear("mixer.attention.out_proj", kWidth, kWidth);
    directory.linear("mixer.linear1", 19, kWidth);
    directory.linear("mixer.linear2", kWidth, 19);
    directory.layer_norm("mixer.norm1", kWidth);
    directory.layer_norm("mixer.norm2", kWidth);
    directory.linear("mixer.output", layers, kWidth);
    return R"("mixer": {"type": "transformer", "ffn_dim": 19, "layer_norm_eps": 1e-5, "add_global": false})";
}

struct SwcmOptions {
    std::string norm_style = "post", sharing = "init";
    bool tied_output = true;
};

// X = 2 with a normal layer after the last multiple: custom, custom, normal, custom.
inline void write_swcm(Directory& directory, const SwcmOptions& options = {}) {
    const std::string encoder = xlm_roberta(directory);
    const bool tied = options.sharing == "tied", post = options.norm_style == "post";
    for (std::int64_t j = 0; j < 4; ++j) {
        const bool normal = j == 2;
        const std::string layer = "decoder.layers." + std::to_string(j) + ".";
        if (normal || !tied) {
            for (const char* attention : {"self_attention.", "cross_attention."}) {
                for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
                    directory.linear(layer + attention + name, kWidth, kWidth);
                }
            }
            for (const char* ffn : {"ffn1", "ffn2", "ffn"}) {
                if (normal != (std::string(ffn) == "ffn")) continue;
                directory.linear(layer + ffn + ".fc_in", kFfn, kWidth);
                directory.linear(layer + ffn + ".fc_out", kWidth, kFfn);
            }
        }
        const int norms = normal ? (post ? 3 : 2) : 4;
        for (int n = 1; n <= norms; ++n) directory.layer_norm(layer + "norm" + std::to_string(n), kWidth);
    }
    if (!options.tied_output) directory.linear("lm_head", kVocab, kWidth);
    const std::string untied = options.tied_output ? "false" : "true", same = options.tied_output ? "true" : "false";
    directory.finish(encoder + R"(, "model_type": "swcm", "vocab_size": 53, "bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 1, "decoder_start_token_id": 0, "normal_layer_interval": 2, "normal_after_last": true,
        "decoder_layer_norm_eps": 1e-5, "norm_style": ")" +
                     options.norm_style + R"(", "sharing": ")" + options.sharing + R"(", "tie_word_embeddings": )" +
                     same + R"(, "output_bias": )" + untied);
}

inline void write_fusion(Directory& directory, std::int64_t window = 0, std::int64_t head_dim = 6) {
    const std::string encoder = mt5(directory), llm = qwen3(directory, window, head_dim);
    const std::string mixer = transformer_mixer(directory);
    directory.linear("mapper.layers.0", kLlmWidth, kWidth);
    directory.vector("end_boundary", kLlmWidth);
    directory.finish(encoder + ", " + llm + ", " + mixer + R"(, "model_type": "layer_fusion",
        "mapper": {"type": "linear"}, "bos_token_id": 3, "eos_token_id": 2, "pad_token_id": 0)");
}

// `mixer`: the field of config.json; its tensors are already in the directory.
inline void write_classifier(Directory& directory, const std::string& mixer, std::int64_t layers = kLayers) {
    const std::string encoder = xlm_roberta(directory, layers);
    directory.linear("classifier", 2, kWidth);
    directory.finish(encoder + ", " + mixer + R"(, "model_type": "layer_fusion_classifier", "pooling": "mean",
        "id2label": {"0": "no", "1": "yes"})");
}

inline std::unique_ptr<lrengine::Model> load(const Directory& directory,
                                             std::optional<lrengine::DType> dtype = std::nullopt, int threads = 1) {
    return lrengine::load_model(directory.path(), lrengine::make_cpu_backend(threads), dtype);
}

using Ids = std::vector<std::int32_t>;

// Ids 3 .. vocab - 1, the same for the same arguments.
inline Ids some_ids(std::size_t length, unsigned seed, std::int64_t vocab = kVocab) {
    std::mt19937 generator(seed);
    Ids ids;
    for (std::size_t i = 0; i < length; ++i) {
        ids.push_back(3 + static_cast<std::int32_t>(generator() % static_cast<unsigned>(vocab - 3)));
    }
    return ids;
}

inline std::vector<lrengine::GenerationSource> one(const Ids& source, const Ids& prompt, const Ids& forced) {
    return {{source, prompt, forced}};
}

// Logits after the state's sources, and after one step.
inline lrengine::Matrix prefill(lrengine::DecodeState& state) {
    state.prefill();
    return state.logits();
}

inline lrengine::Matrix step(lrengine::DecodeState& state, const lrengine::StepInput& input) {
    state.step(input);
    return state.logits();
}

// Row m of logits on a backend that shares the host's memory.
inline std::vector<float> row(const lrengine::Matrix& logits, std::int64_t m) {
    const float* values = logits.row<float>(m);
    return {values, values + logits.cols};
}

inline double log_prob(const std::vector<float>& logits, std::int32_t id) {
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    return logits[static_cast<std::size_t>(id)] - std::log(sum);
}

}  // namespace tiny
