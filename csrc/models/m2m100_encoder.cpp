#include "models/m2m100_encoder.h"

#include <algorithm>
#include <cmath>

#include "core/weight_storage.h"

namespace lrengine {

namespace {

PreNormLayer load_layer(const EncoderConfig& config, const AttentionShape& shape, WeightLoader& loader,
                        std::int64_t index) {
    const std::string prefix = "encoder.layers." + std::to_string(index) + ".";
    const AttentionNames names{prefix + "self_attn.q_proj", prefix + "self_attn.k_proj", prefix + "self_attn.v_proj",
                               prefix + "self_attn.out_proj"};
    PreNormLayer layer;
    layer.attention_norm = load_layer_norm(loader, prefix + "self_attn_layer_norm", config.width, config.eps);
    layer.attention = load_attention(loader, names, shape, config.width, Bias::kPresent);
    layer.ffn_norm = load_layer_norm(loader, prefix + "final_layer_norm", config.width, config.eps);
    layer.ffn.in = load_dense(loader, prefix + "fc1", config.ffn, config.width, Bias::kPresent);
    layer.ffn.out = load_dense(loader, prefix + "fc2", config.width, config.ffn, Bias::kPresent);
    layer.ffn.activation = config.activation;
    return layer;
}

}  // namespace

std::vector<float> sinusoidal_positions(std::int64_t rows, std::int64_t width, std::int64_t pad_id) {
    const std::int64_t half = width / 2;
    const auto step = static_cast<float>(-std::log(10000.0) / static_cast<double>(half - 1));
    std::vector<float> table(static_cast<std::size_t>(rows * width), 0.0f);
    for (std::int64_t j = 0; j < half; ++j) {
        const float frequency = std::exp(static_cast<float>(j) * step);
        for (std::int64_t p = 0; p < rows; ++p) {
            if (p == pad_id) continue;
            const float angle = static_cast<float>(p) * frequency;
            float* row = table.data() + p * width;
            row[j] = std::sin(angle);
            row[half + j] = std::cos(angle);
        }
    }
    return table;
}

M2M100Encoder::M2M100Encoder(const EncoderConfig& config, WeightLoader& loader, Backend& backend,
                             WeightStorage& storage)
    : Encoder(config), shape_(multi_head(config.heads, config.head_dim)) {
    word_ = loader.embeddings("encoder.embed_tokens.weight", config.vocab, config.width);
    const std::int64_t rows = config.position_offset + config.max_positions;
    const std::vector<float> table = sinusoidal_positions(rows, config.width, config.pad_id);
    void* memory = storage.allocate(table.size() * sizeof(float));
    backend.copy_to_device(memory, table.data(), table.size() * sizeof(float));
    positions_ = {.data = memory, .dtype = DType::kFloat32, .rows = rows, .cols = config.width};
    // Some files keep the computed table.
    for (const char* buffer : {"encoder.embed_positions.weights", "encoder.embed_positions._float_tensor"})
        loader.ignore(buffer);
    for (std::int64_t i = 0; i < config.layers; ++i) layers_.push_back(load_layer(config, shape_, loader, i));
    final_norm_ = load_layer_norm(loader, "encoder.layer_norm", config.width, config.eps);
}

void M2M100Encoder::embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
                          const Matrix& out) const {
    work.backend.embedding({.ids = ids,
                            .positions = positions,
                            .word = word_,
                            .position = positions_,
                            .type = {},
                            .scale = config().embedding_scale,
                            .out = out});
}

void M2M100Encoder::run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                              const Matrix& out) const {
    layers_[static_cast<std::size_t>(layer)].run(work, shape_, x, sequences, out);
}

void M2M100Encoder::finish(const Workspace& work, const Matrix& last) const {
    normalize(work.backend, last, final_norm_, last);
}

}  // namespace lrengine
