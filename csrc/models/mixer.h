// Mixing the layers of an encoder per token   (arXiv 2508.09091; MODELS.md, B): f = sum_l w_l h_l, w = softmax(logits).
//
// Layers are mixed while the encoder runs, G at a time: as many states as fit in half of the device's cache.
// global: keeps G states (at least one) instead of L. L M D elements are read and 2 M D L / G of f read and written, in
// the cache, instead of (L + 1) M D from and to memory. Where all L fit, G = L is one pass and one launch. The CPU's
// cache is not worth counting with: G = 1 takes 0.74 to 1.00 of the time of one pass (layer_mix_bench: L = 24,
// D = 1,024, 16 to 2,048 tokens, bfloat16 weights in between).
// transformer: the attention reads G states while they are in the cache, (L + 2 L / G) M D elements there, instead of L
// M D from memory later; worth it from G = 4 on, where that is 1.5 times as much (a GPU's cache is about twice as fast;
// on the CPU G = 4 takes 1.01 to 1.19 of the time of one pass, G = 1 up to 1.58). The weights depend on the last state,
// so that all L are kept for the sum. L = 24, D = 1,024, 1,024 tokens, float32: 100 MB from memory instead of 200.
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

// Fused tokens [M, D], or what is left to do for them: the last layers' part of the sum, which may be part of the
// product that reads them.
struct FusedTokens {
    Matrix tokens;
    std::vector<Matrix> states = {};  // none: the tokens are there
    Matrix logits = {};
    std::int64_t first = 0;

    LayerMixArgs mix() const;
    // The tokens, made.
    Matrix make(Backend& backend) const;
    // A product of theirs. It alone reads them.
    void multiply(Backend& backend, const LinearArgs& product) const;
};

// Immutable; one object serves many threads.
class Mixer {
public:
    // Tensors "mixer.*".
    Mixer(const MixerConfig& config, const EncoderConfig& encoder, WeightLoader& loader, Backend& backend,
          WeightStorage& storage);

    // Runs the encoder over packed sources (as Encoder::run() says) and returns the fused tokens, in the arena's
    // current scope.
    FusedTokens fuse(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                     const PackedRows& rows) const;
    // The same for w [M, L].
    Matrix layer_weights(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                         const PackedRows& rows) const;

private:
    // States of so many rows that fit in half of the cache.
    std::int64_t states_in_cache(const Workspace& work, std::int64_t rows) const;
    FusedTokens mix_globally(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                             const PackedRows& rows) const;
    // The transformer form.
    FusedTokens mix_per_token(const Workspace& work, const Encoder& encoder, std::span<const TokenSpan> sources,
                              const PackedRows& rows) const;
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
