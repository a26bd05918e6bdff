#include "models/feed_forward.h"

namespace lrengine {

void feed_forward(const Workspace& work, const std::optional<NormArgs>& norm, const Matrix& x, const FeedForward& block,
                  const Matrix& residual, const Matrix& out) {
    const ArenaScope scope(work.arena);
    const Matrix hidden = work.matrix(x.rows, block.in.outputs());
    if (block.gate.weight) {
        const Matrix gate = work.matrix(x.rows, block.gate.outputs());
        work.backend.gated_linear({.norm = norm,
                                   .gate = product(x, block.gate, gate),
                                   .up = product(x, block.in, hidden),
                                   .activation = block.activation,
                                   .out = hidden});
    } else {
        const LinearArgs in = product(x, block.in, hidden, {}, block.activation);
        work.backend.normed_linear({.norm = norm, .products = std::span(&in, 1)});
    }
    work.backend.linear(product(hidden, block.out, out, residual));
}

}  // namespace lrengine
