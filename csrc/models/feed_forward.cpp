#include "models/feed_forward.h"

namespace lrengine {

void feed_forward(const Workspace& work, const std::optional<NormArgs>& norm, const Matrix& x, const FeedForward& block,
                  const Matrix& residual, const Matrix& out) {
    const ArenaScope scope(work.arena);
    const Matrix hidden = work.matrix(x.rows, block.in.outputs());
    FeedForwardArgs args{.norm = norm,
                         .gate = {},
                         .in = product(x, block.in, hidden),
                         .activation = block.activation,
                         .out = product(hidden, block.out, out, residual)};
    if (block.gate.weight) args.gate = product(x, block.gate, work.matrix(x.rows, block.gate.outputs()));
    work.backend.feed_forward(args);
}

}  // namespace lrengine
