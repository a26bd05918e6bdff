// Model directories with random weights: an encoder and around it what each family adds. At odd sizes by default; at
// kSmallest files are short enough to be damaged at every byte.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "model_files.h"
#include "models/model.h"

namespace tiny {

inline constexpr std::int64_t kWidth = 24, kHeads = 3, kFfn = 40, kVocab = 53, kLayers = 3, kPositions = 37;
inline constexpr std::int64_t kLlmWidth = 20, kLlmVocab = 41, kLlmPositions = 64;

struct Sizes {
    std::int64_t width = kWidth, heads = kHeads, t5_head_dim = 5, ffn = kFfn, vocab = kVocab, layers = kLayers;
    std::int64_t positions = kPositions, normal_interval = 2, mixer_ffn = 19;
    std::int64_t llm_width = kLlmWidth, llm_heads = 4, llm_key_heads = 2, llm_ffn = 28, llm_vocab = kLlmVocab;
    std::int64_t llm_layers = 2;
};
inline constexpr Sizes kSmallest{4, 1, 4, 4, 8, 1, 24, 1, 4, 4, 2, 1, 4, 8, 1};

// Tensors by name, each filled from a generator seeded by its name: the same name always holds the same numbers.
class Directory {
public:
    explicit Directory(const Sizes& sizes = {}) : sizes(sizes) {}

    const Sizes sizes;

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
        folder_.write("model.safetensors", model_files::safetensors_bytes(tensors()));
        folder_.write("config.json", "{" + fields_ + "}");
    }
    std::vector<model_files::Tensor> tensors() const {
        std::vector<model_files::Tensor> all;
        for (const auto& [name, values] : values_) {
            all.push_back(model_files::float_tensor(name, shapes_.at(name), values));
        }
        return all;
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

// "name": number, and a comma.
inline std::string field(const char* name, std::int64_t number) {
    return '"' + std::string(name) + "\": " + std::to_string(number) + ", ";
}

// XLM-RoBERTa: positions from pad + 1 = 2 on, so kPositions - 2 tokens at most.
inline std::string xlm_roberta(Directory& directory, std::int64_t layers) {
    const auto [width, ffn, vocab] = std::tuple(directory.sizes.width, directory.sizes.ffn, directory.sizes.vocab);
    const std::string embeddings = "encoder.embeddings.";
    directory.table(embeddings + "word_embeddings.weight", vocab, width);
    directory.table(embeddings + "position_embeddings.weight", directory.sizes.positions, width);
    directory.table(embeddings + "token_type_embeddings.weight", 1, width);
    directory.layer_norm(embeddings + "LayerNorm", width);
    for (std::int64_t i = 0; i < layers; ++i) {
        const std::string layer = "encoder.encoder.layer." + std::to_string(i) + ".";
        for (const char* name :
             {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"}) {
            directory.linear(layer + name, width, width);
        }
        directory.layer_norm(layer + "attention.output.LayerNorm", width);
        directory.linear(layer + "intermediate.dense", ffn, width);
        directory.linear(layer + "output.dense", width, ffn);
        directory.layer_norm(layer + "output.LayerNorm", width);
    }
    return R"("encoder": {"model_type": "xlm-roberta", )" + field("hidden_size", width) +
           field("num_attention_heads", directory.sizes.heads) + field("num_hidden_layers", layers) +
           field("intermediate_size", ffn) + field("vocab_size", vocab) +
           field("max_position_embeddings", directory.sizes.positions) +
           R"("type_vocab_size": 1, "layer_norm_eps": 1e-5, "hidden_act": "gelu", "pad_token_id": 1})";
}
inline std::string xlm_roberta(Directory& directory) { return xlm_roberta(directory, directory.sizes.layers); }

inline std::string mt5(Directory& directory) {
    const Sizes& sizes = directory.sizes;
    const std::int64_t inner = sizes.heads * sizes.t5_head_dim;
    directory.table("encoder.shared.weight", sizes.vocab, sizes.width);
    const std::string stack = "encoder.encoder.";
    directory.table(stack + "block.0.layer.0.SelfAttention.relative_attention_bias.weight", 8, sizes.heads);
    for (std::int64_t i = 0; i < sizes.layers; ++i) {
        const std::string block = stack + "block." + std::to_string(i) + ".layer.";
        for (const char* name : {"q", "k", "v"}) {
            directory.matrix(block + "0.SelfAttention." + name + ".weight", inner, sizes.width);
        }
        directory.matrix(block + "0.SelfAttention.o.weight", sizes.width, inner);
        directory.gain(block + "0.layer_norm.weight", sizes.width);
        directory.matrix(block + "1.DenseReluDense.wi_0.weight", sizes.ffn, sizes.width);
        directory.matrix(block + "1.DenseReluDense.wi_1.weight", sizes.ffn, sizes.width);
        directory.matrix(block + "1.DenseReluDense.wo.weight", sizes.width, sizes.ffn);
        directory.gain(block + "1.layer_norm.weight", sizes.width);
    }
    directory.gain(stack + "final_layer_norm.weight", sizes.width);
    return R"("encoder": {"model_type": "mt5", )" + field("num_layers", sizes.layers) + field("d_model", sizes.width) +
           field("num_heads", sizes.heads) + field("d_kv", sizes.t5_head_dim) + field("d_ff", sizes.ffn) +
           field("vocab_size", sizes.vocab) + R"("layer_norm_epsilon": 1e-6, "pad_token_id": 0,
        "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20})";
}

// Qwen3: grouped queries (4 heads, 2 key heads), norms on them, output tied. `window`: its sliding window, or 0.
inline std::string qwen3(Directory& directory, std::int64_t window = 0, std::int64_t head_dim = 6) {
    const Sizes& sizes = directory.sizes;
    const std::int64_t width = sizes.llm_width, ffn = sizes.llm_ffn, vocab = sizes.llm_vocab;
    directory.table("llm.model.embed_tokens.weight", vocab, width);
    for (std::int64_t i = 0; i < sizes.llm_layers; ++i) {
        const std::string layer = "llm.model.layers." + std::to_string(i) + ".";
        directory.gain(layer + "input_layernorm.weight", width);
        directory.gain(layer + "post_attention_layernorm.weight", width);
        directory.matrix(layer + "self_attn.q_proj.weight", sizes.llm_heads * head_dim, width);
        directory.matrix(layer + "self_attn.k_proj.weight", sizes.llm_key_heads * head_dim, width);
        directory.matrix(layer + "self_attn.v_proj.weight", sizes.llm_key_heads * head_dim, width);
        directory.matrix(layer + "self_attn.o_proj.weight", width, sizes.llm_heads * head_dim);
        directory.gain(layer + "self_attn.q_norm.weight", head_dim);
        directory.gain(layer + "self_attn.k_norm.weight", head_dim);
        directory.matrix(layer + "mlp.gate_proj.weight", ffn, width);
        directory.matrix(layer + "mlp.up_proj.weight", ffn, width);
        directory.matrix(layer + "mlp.down_proj.weight", width, ffn);
    }
    directory.gain("llm.model.norm.weight", width);
    const std::string sliding =
        window == 0
            ? R"("use_sliding_window": false)"
            : R"("use_sliding_window": true, "max_window_layers": 0, "sliding_window": )" + std::to_string(window);
    return R"("llm": {"model_type": "qwen3", )" + field("num_hidden_layers", sizes.llm_layers) +
           field("hidden_size", width) + field("num_attention_heads", sizes.llm_heads) +
           field("num_key_value_heads", sizes.llm_key_heads) + field("intermediate_size", ffn) +
           field("vocab_size", vocab) + field("head_dim", head_dim) + field("max_position_embeddings", kLlmPositions) +
           R"("rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": false, "tie_word_embeddings": true,
        "rope_theta": 10000.0, )" +
           sliding + "}";
}

inline std::string transformer_mixer(Directory& directory, std::int64_t layers) {
    const std::int64_t width = directory.sizes.width, ffn = directory.sizes.mixer_ffn;
    directory.table("mixer.position_embeddings", layers, width);
    directory.vector("mixer.cls", width);
    directory.matrix("mixer.attention.in_proj_weight", 3 * width, width);
    directory.vector("mixer.attention.in_proj_bias", 3 * width);
    directory.linear("mixer.attention.out_proj", width, width);
    directory.linear("mixer.linear1", ffn, width);
    directory.linear("mixer.linear2", width, ffn);
    directory.layer_norm("mixer.norm1", width);
    directory.layer_norm("mixer.norm2", width);
    directory.linear("mixer.output", layers, width);
    return R"("mixer": {"type": "transformer", )" + field("ffn_dim", ffn) +
           R"("layer_norm_eps": 1e-5, "add_global": false})";
}
inline std::string transformer_mixer(Directory& directory) {
    return transformer_mixer(directory, directory.sizes.layers);
}

struct SwcmOptions {
    std::string norm_style = "post", sharing = "init";
    bool tied_output = true;
};

// A normal layer after every two custom ones by default: custom, custom, normal, custom.
inline void write_swcm(Directory& directory, const SwcmOptions& options = {}) {
    const std::string encoder = xlm_roberta(directory);
    const bool tied = options.sharing == "tied", post = options.norm_style == "post";
    const Sizes& sizes = directory.sizes;
    const std::int64_t width = sizes.width, ffn_width = sizes.ffn, group = sizes.normal_interval + 1;
    for (std::int64_t j = 0; j < sizes.layers + sizes.layers / sizes.normal_interval; ++j) {
        const bool normal = j % group == group - 1;
        const std::string layer = "decoder.layers." + std::to_string(j) + ".";
        if (normal || !tied) {
            for (const char* attention : {"self_attention.", "cross_attention."}) {
                for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
                    directory.linear(layer + attention + name, width, width);
                }
            }
            for (const char* ffn : {"ffn1", "ffn2", "ffn"}) {
                if (normal != (std::string(ffn) == "ffn")) continue;
                directory.linear(layer + ffn + ".fc_in", ffn_width, width);
                directory.linear(layer + ffn + ".fc_out", width, ffn_width);
            }
        }
        const int norms = normal ? (post ? 3 : 2) : 4;
        for (int n = 1; n <= norms; ++n) directory.layer_norm(layer + "norm" + std::to_string(n), width);
    }
    if (!options.tied_output) directory.linear("lm_head", sizes.vocab, width);
    const std::string untied = options.tied_output ? "false" : "true", same = options.tied_output ? "true" : "false";
    directory.finish(encoder + R"(, "model_type": "swcm", )" + field("vocab_size", sizes.vocab) +
                     field("normal_layer_interval", sizes.normal_interval) + R"("bos_token_id": 0, "eos_token_id": 2,
        "pad_token_id": 1, "decoder_start_token_id": 0, "normal_after_last": true,
        "decoder_layer_norm_eps": 1e-5, "norm_style": ")" +
                     options.norm_style + R"(", "sharing": ")" + options.sharing + R"(", "tie_word_embeddings": )" +
                     same + R"(, "output_bias": )" + untied);
}

inline void write_fusion(Directory& directory, std::int64_t window = 0, std::int64_t head_dim = 6) {
    const std::string encoder = mt5(directory), llm = qwen3(directory, window, head_dim);
    const std::string mixer = transformer_mixer(directory);
    directory.linear("mapper.layers.0", directory.sizes.llm_width, directory.sizes.width);
    directory.vector("end_boundary", directory.sizes.llm_width);
    directory.finish(encoder + ", " + llm + ", " + mixer + R"(, "model_type": "layer_fusion",
        "mapper": {"type": "linear"}, "bos_token_id": 3, "eos_token_id": 2, "pad_token_id": 0)");
}

// `mixer`: the field of config.json; its tensors are already in the directory.
inline void write_classifier(Directory& directory, const std::string& mixer, std::int64_t layers) {
    const std::string encoder = xlm_roberta(directory, layers);
    directory.linear("classifier", 2, directory.sizes.width);
    directory.finish(encoder + ", " + mixer + R"(, "model_type": "layer_fusion_classifier", "pooling": "mean",
        "id2label": {"0": "no", "1": "yes"})");
}
inline void write_classifier(Directory& directory, const std::string& mixer) {
    write_classifier(directory, mixer, directory.sizes.layers);
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
    state.prefill({});
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
