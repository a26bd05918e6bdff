#include "models/feed_forward.h"

#include <array>

namespace lrengine {

void feed_forward(const Workspace& work, const Matrix& x, const FeedForward& block, const Matrix& residual,
                  const Matrix& out) {
    const ArenaScope scope(work.arena);
    const Matrix hidden = work.matrix(x.rows, block.in.outputs());
    if (block.gate.weight) {
        const Matrix gate = work.matrix(x.rows, block.gate.outputs());
        const std::array products{product(x, block.gate, gate), product(x, block.in, hidden)};
        work.backend.linear(products);
        work.backend.gated({.gate = gate, .up = hidden, .out = hidden, .activation = block.activation});
    } else {
        work.backend.linear(product(x, block.in, hidden, {}, block.activation));
    }
    work.backend.linear(product(hidden, block.out, out, residual));
}

}  // namespace lrengine
