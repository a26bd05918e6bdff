// The feed-forward block: W_out f(W_in x), or W_out (f(W_gate x) * W_in x).
#pragma once

#include "models/layers.h"
#include "models/workspace.h"

namespace lrengine {

struct FeedForward {
    Dense in;    // [F, D]; of a gated block: the factor without activation
    Dense gate;  // [F, D]; null weight: not gated
    Dense out;   // [D, F]
    Activation activation = Activation::kGelu;
};

// out = block(x) + residual (null: none); out may be the residual's memory.
void feed_forward(const Workspace& work, const Matrix& x, const FeedForward& block, const Matrix& residual,
                  const Matrix& out);

}  // namespace lrengine
