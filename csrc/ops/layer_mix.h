// Mixing all encoder layers per token: f = sum_l w_l h_l, w = softmax(logits)   (arXiv 2508.09091; MODELS.md, B).
#pragma once

#include "core/tensor.h"

namespace lrengine {

// `states` points at L matrices [M, D]. logits: [M, L] a row a token, or one row [1, L] for all tokens (global form).
// fused [M, D]; weights [M, L] or null. Softmax and sum in float32.
struct LayerMixArgs {
    const Matrix* states = nullptr;
    std::int64_t layers = 0;
    Matrix logits;
    Matrix fused;
    Matrix weights;
};

// The attention of the mixer's one-head layer, read at position 0 alone, whose query is a constant: with key = Wk^T q
// and
//     score_0 = score_bias[0]                       (position 0 attends to itself: k . c + bk . q)
//     score_l = key . h_l + score_bias[l]           (score_bias[l] = key . p_l + bk . q)
//     alpha = softmax(score),  z = alpha_0 c + sum_l alpha_l (h_l + p_l)
// z [M, D] is what Wo Wv (folded) is applied to afterwards. positions p [L, D], cls c [D], score_bias [L + 1].
struct MixerAttentionArgs {
    const Matrix* states = nullptr;
    std::int64_t layers = 0;
    Vector key;
    Vector score_bias;
    Weight positions;
    Vector cls;
    Matrix z;
};

}  // namespace lrengine
