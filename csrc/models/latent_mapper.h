// LangBridge's Perceiver resampler   (arXiv 2204.14198, 2401.10695): a fixed number of latents look at the source and
// at themselves, and become that many LLM embeddings.
#pragma once

#include <vector>

#include "models/attention_block.h"
#include "models/feed_forward.h"
#include "models/mapper.h"

namespace lrengine {

// y = x + Wo attention(q: LN_l(x); k, v: [LN_m(source), LN_l(x)]);  x = y + FFN(y)
struct LatentLayer {
    NormWeights media_norm, latents_norm;
    AttentionWeights attention;  // without biases
    FeedForward ffn;
};

// out = LN(W_out x) after all layers; x begins as the learned latents.
class LatentMapper final : public Mapper {
public:
    LatentMapper(const MapperConfig& config, std::int64_t width, std::int64_t llm_width, WeightLoader& loader);

    std::int64_t output_length(std::int64_t) const override { return latents_.rows; }
    void run(const Workspace& work, const FusedTokens& tokens, const Packing& sources,
             const Matrix& out) const override;

private:
    // What a source's latents attend to, packed: its tokens, then its latents.
    struct Seen;

    void run_layer(const Workspace& work, const LatentLayer& layer, const Matrix& fused, const Seen& seen,
                   const Matrix& x) const;

    AttentionShape shape_;
    Weight latents_;  // [N, D]
    std::vector<LatentLayer> layers_;
    Dense out_;
    NormWeights norm_;
};

}  // namespace lrengine
