// BERT and XLM-RoBERTa encoders: post-norm layers over word + position + type embeddings   (arXiv 1810.04805,
// 1911.02116).
#pragma once

#include "models/attention_block.h"
#include "models/encoder.h"
#include "models/feed_forward.h"

namespace lrengine {

// h = LayerNorm(word + position + type), type being token type 0's row.
struct BertEmbeddings {
    Weight word;      // [V, D]
    Weight position;  // [P, D]
    Vector type;      // [D]
    NormWeights norm;

    // The sum before the norm.
    void add_up(Backend& backend, const std::int32_t* ids, const std::int32_t* positions, const Matrix& out) const;
};

// h = LN(x + attention(x)); out = LN(h + ffn(h)).
struct BertLayer {
    AttentionWeights attention;
    NormWeights attention_norm;
    FeedForward ffn;
    NormWeights output_norm;
};

class BertEncoder final : public Encoder {
public:
    static constexpr const char* kWordEmbeddings = "encoder.embeddings.word_embeddings.weight";

    BertEncoder(const EncoderConfig& config, WeightLoader& loader);

    const Weight& word_embeddings() const override { return embeddings_.word; }

    // What an SWCM decoder shares.
    const BertEmbeddings& embeddings() const { return embeddings_; }
    const BertLayer& layer(std::int64_t index) const { return layers_[static_cast<std::size_t>(index)]; }
    const AttentionShape& attention_shape() const { return shape_; }

private:
    Matrix make_state(const Workspace& work, std::int64_t rows) const override;
    void embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
               const Matrix& out) const override;
    void run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                   const Matrix& out) const override;

    AttentionShape shape_;
    BertEmbeddings embeddings_;
    std::vector<BertLayer> layers_;
};

}  // namespace lrengine
