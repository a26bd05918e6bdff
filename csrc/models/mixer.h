// Mixing the layers of an encoder per token   (arXiv 2508.09091; MODELS.md, B): f = sum_l w_l h_l, w = softmax(logits).
#pragma once

#include <span>

#include "models/config.h"
#include "models/encoder.h"
#include "models/feed_forward.h"

namespace lrengine {

// The transformer form's attention, read at position 0 alone, with everything constant folded (in double) at load:
//     q = (Wq c + bq) / sqrt(D),  key = Wk^T q,  score_bias[0] = key . c + bk . q,  score_bias[l] = key . p_l + bk . q
//     value = Wo Wv,  its bias = Wo bv + bo + c (the residual of position 0)
struct FoldedMixerAttention {
    Vector key;         // [D]
    Vector score_bias;  // [L + 1]
    Weight positions;   // p [L, D]
    Vector cls;         // c [D]
    Dense value;        // [D, D]
};

FoldedMixerAttention fold_mixer_attention(std::int64_t layers, std::int64_t width, WeightLoader& loader,
                                          Backend& backend, WeightStorage& storage);

// Immutable; one object serves many threads.
class Mixer {
public:
    // Tensors "mixer.*".
    Mixer(const MixerConfig& config, const EncoderConfig& encoder, WeightLoader& loader, Backend& backend,
          WeightStorage& storage);

    // What fuse() and layer_weights() have to be given.
    KeepStates states() const { return kind_ == MixerKind::kLast ? KeepStates::kLast : KeepStates::kAll; }

    // Fused tokens [M, D] of layer states [M, D] each. `last` gives its input back.
    Matrix fuse(const Workspace& work, std::span<const Matrix> states) const;
    // w [M, L].
    Matrix layer_weights(const Workspace& work, std::span<const Matrix> states) const;

private:
    struct Mixed {
        Matrix fused, weights;
    };
    Mixed mix(const Workspace& work, std::span<const Matrix> states) const;
    // Logits [M, L] of the transformer form.
    Matrix token_logits(const Workspace& work, std::span<const Matrix> states) const;

    MixerKind kind_;
    std::int64_t layers_;
    Matrix constant_logits_;  // [1, L]: the global form's; of `last`, a row that picks the last layer
    FoldedMixerAttention attention_;
    NormWeights norm1_, norm2_;
    FeedForward ffn_;
    Dense output_;  // [L, D]; with add_global its bias holds the global logits too
};

}  // namespace lrengine
