// Mixing all encoder layers per token: f = sum_l w_l h_l, w = softmax(logits)   (arXiv 2508.09091; MODELS.md, B).
//
// Both ops take the states of layers [first, first + layers) of L: all at once, or, while the encoder runs, some at a
// time in the order of the layers, which gives the same result (on the CPU the same bits).
#pragma once

#include "core/tensor.h"

namespace lrengine {

// `states` points at the given layers' matrices [M, D]. logits: [M, L] a row a token, or one row [1, L] for all tokens
// (global form). fused [M, D]: with first > 0 what the layers before gave, added to, and float32 then, as in every call
// but one that takes all layers; weights [M, L] or null. Softmax and sum in float32.
struct LayerMixArgs {
    const Matrix* states = nullptr;
    std::int64_t layers = 0;
    Matrix logits;
    Matrix fused;
    Matrix weights;
    std::int64_t first = 0;
};

// The attention of the mixer's one-head layer, read at position 0 alone, whose query is a constant: with key = Wk^T q
// and
//     score_0 = score_bias[0]                       (position 0 attends to itself: k . c + bk . q)
//     score_l = key . h_l + score_bias[l]           (score_bias[l] = key . p_l + bk . q)
//     alpha = softmax(score),  z = alpha_0 c + sum_l alpha_l (h_l + p_l)
// z [M, D] is what Wo Wv (folded) is applied to afterwards. positions p [L, D], cls c [D], score_bias [L + 1].
// running [M, 2], float32: for calls that do not take all layers, whose z is float32; between them it holds the largest
// score so far and the sum of exp(score - largest), and z is that sum too large. Null for one call of all layers.
struct MixerAttentionArgs {
    const Matrix* states = nullptr;
    std::int64_t layers = 0;
    Vector key;
    Vector score_bias;
    Weight positions;
    Vector cls;
    Matrix z;
    std::int64_t first = 0;
    Matrix running;
};

}  // namespace lrengine
