// Decoder-only language models: Llama, Mistral, Qwen2 and Qwen3   (RMSNorm, rotary positions, grouped queries, gated
// FFN).
#pragma once

#include "models/config.h"
#include "models/decoder_pass.h"
#include "models/feed_forward.h"

namespace lrengine {

struct LlmLayer {
    NormWeights input_norm, post_attention_norm;
    AttentionWeights attention;
    NormWeights query_norm, key_norm;  // per head (Qwen3); null weights elsewhere
    FeedForward ffn;
};

// Immutable; one object serves many threads.
class Llm {
public:
    // Tensors "llm.*".
    Llm(const LlmConfig& config, WeightLoader& loader, Backend& backend, WeightStorage& storage);

    const LlmConfig& config() const { return config_; }
    const AttentionShape& attention_shape() const { return shape_; }

    // Embeddings of tokens, out [M, E].
    void embed(const Workspace& work, const std::int32_t* tokens, const Matrix& out) const;
    // All layers, in place: embeddings x [M, E] become the states before the final norm.
    void run(const Workspace& work, const DecoderPass& pass, const Matrix& x) const;
    // The final norm of states [M, E], in the arena's current scope: what output() is applied to.
    Matrix normalized(const Workspace& work, const Matrix& hidden) const;
    const Dense& output() const { return output_; }

private:
    LlmLayer load_layer(WeightLoader& loader, std::int64_t index) const;
    void attend(const Workspace& work, const DecoderPass& pass, std::size_t layer, const Matrix& normed,
                const Matrix& x) const;

    LlmConfig config_;
    AttentionShape shape_;
    Weight word_;
    Vector inv_freq_;
    std::vector<LlmLayer> layers_;
    NormWeights final_norm_;
    Dense output_;
};

}  // namespace lrengine
