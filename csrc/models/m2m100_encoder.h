// M2M100 and NLLB-200 encoders: pre-norm LayerNorm, sinusoidal positions, scaled embeddings   (arXiv 2010.11125,
// 2207.04672).
#pragma once

#include "models/encoder.h"
#include "models/pre_norm_layer.h"

namespace lrengine {

class M2M100Encoder final : public Encoder {
public:
    // The position table is computed, not loaded; it goes to `storage`.
    M2M100Encoder(const EncoderConfig& config, WeightLoader& loader, Backend& backend, WeightStorage& storage);

    const Weight& word_embeddings() const override { return word_; }

private:
    void embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
               const Matrix& out) const override;
    void run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                   const Matrix& out) const override;
    void finish(const Workspace& work, const Matrix& last) const override;

    AttentionShape shape_;
    Weight word_;
    Weight positions_;
    std::vector<PreNormLayer> layers_;
    NormWeights final_norm_;
};

// Rows [0, rows) of the table: sin(p w_j) for j < D/2, then cos(p w_j), then a zero when D is odd; w_j = 10000^(-j /
// (D/2 - 1)). The pad's row is zero. Rounded to float32 where transformers rounds.
std::vector<float> sinusoidal_positions(std::int64_t rows, std::int64_t width, std::int64_t pad_id);

}  // namespace lrengine
