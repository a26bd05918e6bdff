// The SWCM decoder: custom layers that share the encoder's weights, and normal layers between them   (arXiv 2502.10852;
// MODELS.md, A). The embeddings are the encoder's.
#pragma once

#include <array>
#include <optional>

#include "models/bert_encoder.h"
#include "models/decoder_pass.h"
#include "models/sequence_decoder.h"

namespace lrengine {

struct SwcmLayer {
    bool custom = true;
    AttentionWeights self_attention, cross_attention;
    FeedForward ffn1;  // custom layers only
    FeedForward ffn;   // custom: FFN2
    // In the order of use. Custom: 4. Normal: 3 (post) or 2 (published, the first is used twice).
    std::array<NormWeights, 4> norms;
};

class SwcmDecoder final : public SequenceDecoder {
public:
    // Borrows the encoder. Tied layers take its layers' weights, the same memory.
    SwcmDecoder(const SwcmConfig& config, const BertEncoder& encoder, WeightLoader& loader);

    const EncoderConfig& source_encoder() const override { return encoder_.config(); }
    const DecoderTraits& traits() const override { return traits_; }
    std::int64_t prefix_length(TokenSpan, TokenSpan) const override { return 0; }

    void feed(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
              const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache& cross,
              const Matrix& hidden) const override;
    Matrix advance(const Workspace& work, const StepPass& pass, std::int64_t rows) const override;
    Projection projection(const Workspace&, const Matrix& hidden) const override { return {hidden, output_}; }

    const SwcmLayer& layer(std::size_t index) const { return layers_[index]; }

private:
    // Encodes packed sources into `encoded` and writes their keys and values in one call, but for those of tied layers,
    // whose self-attention reads the same weights: returns what is left to do with it, by layer. In the arena's current
    // scope.
    std::vector<std::vector<LinearArgs>> project_sources(const Workspace& work, std::span<const TokenSpan> sources,
                                                         const PackedRows& rows, const KvCache& cross,
                                                         const Matrix& encoded) const;
    void embed(const Workspace& work, const std::int32_t* tokens, const std::int32_t* positions, const Matrix& x) const;
    // The residual stream between layers: x, and where it goes normalised. `pending`: the norm that x still needs, the
    // embeddings' at first; null in the published style, whose layers begin with norms of their own.
    struct Stream {
        Matrix x, normed;
        const NormWeights* pending;
    };
    // All layers, in place, from embeddings that are not normalised yet. `normed`: memory for what products read of x.
    void run(const Workspace& work, const DecoderPass& pass, const Matrix& x, const Matrix& normed) const;
    void run_post(const Workspace& work, const DecoderPass& pass, std::size_t layer, Stream& stream) const;
    void run_published_custom(const Workspace& work, const DecoderPass& pass, std::size_t layer, Stream& stream) const;
    void run_published_normal(const Workspace& work, const DecoderPass& pass, std::size_t layer, Stream& stream) const;

    // out = attention(x) + residual (null: none). With a norm, x is its output and is made first.
    void self_attention(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                        const std::optional<NormArgs>& norm, const Matrix& x, const Matrix& residual,
                        const Matrix& out) const;
    void cross_attention(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                         const std::optional<NormArgs>& norm, const Matrix& x, const Matrix& residual,
                         const Matrix& out) const;

    const BertEncoder& encoder_;
    NormStyle norm_style_;
    AttentionShape shape_;
    DecoderTraits traits_;
    Weight target_positions_;  // the encoder's table from the first token's position on
    std::vector<SwcmLayer> layers_;
    Dense output_;
};

}  // namespace lrengine
