// Mixing the layers of an encoder per token   (arXiv 2508.09091; MODELS.md, B): f = sum_l w_l h_l, w = softmax(logits).
//
// Layers are mixed while the encoder runs, G at a time: as many states as fit in half of the device's cache, at least
// one. The global form then keeps G states instead of L. Its f is read and written L / G times, but in the cache; where
// all L fit, G = L is one pass over them and one launch. The transformer form's attention goes along likewise and needs
// no pass of its own; its weights depend on the last state, so that all L are kept for the sum. In float32 activations,
// D = 1,024, L = 24, 2,048 tokens: 200 MB of states for 8 MB times G; from memory, the global form reads nothing
// instead of 200 MB, the transformer form 200 MB instead of 400 MB.
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

    // Runs the encoder over packed sources (as Encoder::run() says) and returns the fused tokens [M, D].
    Matrix fuse(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                const PackedRows& rows) const;
    // The same for w [M, L].
    Matrix layer_weights(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                         const PackedRows& rows) const;

private:
    // States that are mixed at a time.
    std::int64_t layers_at_once(const Workspace& work, std::int64_t rows) const;
    void mix_globally(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                      const PackedRows& rows, const Matrix& fused) const;
    // The transformer form; weights [M, L] or null.
    void mix_per_token(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                       const PackedRows& rows, const Matrix& fused, const Matrix& weights) const;
    // Its logits [M, L] of the attention's z [M, D].
    Matrix token_logits(const Workspace& work, const Matrix& z) const;

    MixerKind kind_;
    std::int64_t layers_, width_;
    Matrix constant_logits_;  // [1, L]: the global form's; of `last`, a row that picks the last layer
    FoldedMixerAttention attention_;
    NormWeights norm1_, norm2_;
    FeedForward ffn_;
    Dense output_;  // [L, D]; with add_global its bias holds the global logits too
};

}  // namespace lrengine
