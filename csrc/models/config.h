// config.json of a model directory as typed structs, checked: after read_config() every number is usable as it is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "ops/activation.h"

namespace lrengine {

enum class EncoderKind {
    kBert,   // bert, xlm-roberta, roberta, camembert: post-norm, learned positions, token types
    kT5,     // t5, mt5, umt5 encoder: pre-norm RMSNorm, relative bias, no attention scale, no biases
    kM2M100  // m2m_100 (NLLB) encoder: pre-norm LayerNorm, sinusoidal positions, scaled embeddings
};

struct EncoderConfig {
    EncoderKind kind = EncoderKind::kBert;
    std::string model_type;
    std::int64_t layers = 0, width = 0, heads = 0, head_dim = 0, ffn = 0, vocab = 0;
    std::int64_t max_positions = 0;  // usable source length (0: no limit)
    std::int64_t position_rows = 0;  // rows of the position table (kBert)
    std::int64_t position_offset =
        0;  // first token's position id: pad id + 1 for (xlm-)roberta, 0 for bert, 2 for m2m_100
    std::int64_t type_vocab = 0;
    std::int64_t pad_id = 0;
    float eps = 1e-5f;
    Activation activation = Activation::kGelu;
    bool gated = false;           // T5 v1.1 / mT5: activation(wi_0 x) * wi_1 x
    bool bias_per_layer = false;  // umT5: a relative bias table in every layer
    std::int64_t bias_buckets = 32, bias_max_distance = 128;
    float embedding_scale = 1.0f;  // sqrt(width) for NLLB
};

struct LlmConfig {
    std::string model_type;  // llama, mistral, qwen2, qwen3
    std::int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_dim = 0, ffn = 0, vocab = 0, max_positions = 0;
    float eps = 1e-6f;
    Activation activation = Activation::kSilu;
    bool attention_bias = false;         // qwen2: q, k and v have biases
    bool attention_output_bias = false;  // llama with attention_bias = true: o as well
    bool mlp_bias = false;
    bool qk_norm = false;  // qwen3
    bool tied_output = false;
    std::vector<float> inv_freq;  // [head_dim / 2], rope scaling (default, linear, llama3) applied
    float attention_scaling = 1.0f;
    std::int64_t sliding_window = 0;  // 0: none. Requests longer than it are refused (kUnsupported), not approximated
};

enum class MixerKind { kLast, kGlobal, kTransformer };

struct MixerConfig {
    MixerKind kind = MixerKind::kLast;
    double temperature_base = 100.0, temperature_factor = 1e5;  // global
    std::int64_t ffn = 2048;                                    // transformer
    float eps = 1e-5f;
    bool add_global = false;  // transformer logits are added to learned global ones
};

enum class MapperKind { kLinear, kMlp, kLatent };

struct MapperConfig {
    MapperKind kind = MapperKind::kLinear;
    std::int64_t hidden = 0;  // mlp
    Activation activation = Activation::kRelu;
    // latent: LangBridge's Perceiver resampler
    std::int64_t latents = 0, depth = 0, heads = 0, head_dim = 0, ffn = 0;
};

enum class NormStyle { kPost, kPublished };
enum class Sharing { kInit, kTied, kNone };

struct SwcmConfig {
    EncoderConfig encoder;
    std::int64_t normal_layer_interval = 0;  // X: a normal layer after every X custom ones; 0: none
    bool normal_after_last = false;
    NormStyle norm_style = NormStyle::kPost;
    Sharing sharing = Sharing::kInit;
    bool tied_output = true;
    bool output_bias = false;
    float decoder_eps = 1e-5f;
    std::int64_t max_target_positions = 0;
};

struct FusionConfig {
    EncoderConfig encoder;
    LlmConfig llm;
    MixerConfig mixer;
    MapperConfig mapper;
};

struct ClassifierConfig {
    EncoderConfig encoder;
    MixerConfig mixer;
    std::vector<std::string> labels;
};

struct TokenIds {
    std::optional<std::int64_t> bos, pad, decoder_start;
    std::vector<std::int64_t> eos;  // one or more
};

// What `lrengine quantize` did to a directory.
struct Quantization {
    DType dtype = DType::kInt8;   // or kInt4
    std::int64_t group_size = 0;  // of int4
};

struct ModelConfig {
    std::string model_type;  // swcm | layer_fusion | layer_fusion_classifier
    TokenIds tokens;
    std::optional<Quantization> quantization;
    // exactly one:
    std::optional<SwcmConfig> swcm;
    std::optional<FusionConfig> fusion;
    std::optional<ClassifierConfig> classifier;
};

// Reads DIRECTORY/config.json. Throws Error(kModelFile) naming the field, what was found and what was expected;
// Error(kUnsupported) for a model_type, activation or rope type that this build cannot run.
ModelConfig read_config(const std::filesystem::path& directory);

}  // namespace lrengine
