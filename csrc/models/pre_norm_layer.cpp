#include "models/pre_norm_layer.h"

namespace lrengine {

void PreNormLayer::run(const Workspace& work, const AttentionShape& shape, const Matrix& x, const Packing& sequences,
                       const Matrix& out) const {
    const Matrix normed = work.matrix(x.rows, x.cols);
    normalize(work.backend, x, attention_norm, normed);
    attend_within(work, normed, attention, shape, sequences, bias, x, out);
    normalize(work.backend, out, ffn_norm, normed);
    feed_forward(work, normed, ffn, out, out);
}

}  // namespace lrengine
