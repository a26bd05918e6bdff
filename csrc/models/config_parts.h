// The pieces of read_config(), a file each. All of them throw as it does.
#pragma once

#include <cstdint>
#include <vector>

#include "core/json.h"
#include "models/config.h"

namespace lrengine {

// Above what any model has, below what would make a product of two of them wrap or a table eat the memory.
constexpr std::int64_t kMostLayers = 1000;
constexpr std::int64_t kLargestWidth = std::int64_t{1} << 17;      // width, FFN, heads
constexpr std::int64_t kLargestVocab = std::int64_t{1} << 24;      // ids are int32
constexpr std::int64_t kMostSourceTokens = std::int64_t{1} << 17;  // rows of an encoder's position table
constexpr std::int64_t kMostPositions = std::int64_t{1} << 24;     // positions float32 still tells apart

// A size: an integer in [1, limit].
std::int64_t read_size(const JsonValue& fields, const char* name, std::int64_t limit);
// A norm's epsilon, above zero in float32 too.
float read_epsilon(const JsonValue& field);
// Hugging Face's names of activation functions.
Activation read_activation(const JsonValue& field);

EncoderConfig read_encoder_config(const JsonValue& fields);
LlmConfig read_llm_config(const JsonValue& fields);
MixerConfig read_mixer_config(const JsonValue& fields);
MapperConfig read_mapper_config(const JsonValue& fields);

struct Rope {
    std::vector<float> inv_freq;  // [head_dim / 2]
    float attention_scaling = 1.0f;

    bool operator==(const Rope&) const = default;
};

// RoPE of an LLM's config in either spelling: `rope_parameters`, or `rope_theta` with `rope_scaling`. Where both are
// given they must say the same. Types: default, linear, llama3, yarn.
Rope read_rope(const JsonValue& fields, std::int64_t head_dim, std::int64_t max_positions);

}  // namespace lrengine
