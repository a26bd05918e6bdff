// The pre-norm encoder layer of T5 and M2M100: h = x + attention(norm(x)); out = h + ffn(norm(h)).
#pragma once

#include "models/attention_block.h"
#include "models/feed_forward.h"

namespace lrengine {

struct PreNormLayer {
    NormWeights attention_norm;
    AttentionWeights attention;
    RelativeBias bias;  // null table: none
    NormWeights ffn_norm;
    FeedForward ffn;

    // x and out [M, D]; out may be x.
    void run(const Workspace& work, const AttentionShape& shape, const Matrix& x, const Packing& sequences,
             const Matrix& out) const;
};

}  // namespace lrengine
