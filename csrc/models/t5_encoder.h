// T5, mT5 and umT5 encoders: pre-norm RMSNorm, relative position bias, no attention scale, no biases   (arXiv
// 1910.10683).
#pragma once

#include "models/encoder.h"
#include "models/pre_norm_layer.h"

namespace lrengine {

class T5Encoder final : public Encoder {
public:
    T5Encoder(const EncoderConfig& config, WeightLoader& loader);

    const Weight& word_embeddings() const override { return word_; }

private:
    void embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
               const Matrix& out) const override;
    void run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                   const Matrix& out) const override;
    void finish(const Workspace& work, const Matrix& last) const override;

    AttentionShape shape_;
    Weight word_;
    std::vector<PreNormLayer> layers_;
    NormWeights final_norm_;
};

}  // namespace lrengine
