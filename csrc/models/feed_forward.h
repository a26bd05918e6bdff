// The feed-forward block: W_out f(W_in x), or W_out (f(W_gate x) * W_in x).
#pragma once

#include <optional>

#include "models/layers.h"
#include "models/workspace.h"

namespace lrengine {

struct FeedForward {
    Dense in;    // [F, D]; of a gated block: the factor without activation
    Dense gate;  // [F, D]; null weight: not gated
    Dense out;   // [D, F]
    Activation activation = Activation::kGelu;
};

// out = block(x) + residual (null: none); out may be the residual's memory. With a norm, x is its output and is made
// first.
void feed_forward(const Workspace& work, const std::optional<NormArgs>& norm, const Matrix& x, const FeedForward& block,
                  const Matrix& residual, const Matrix& out);
inline void feed_forward(const Workspace& work, const Matrix& x, const FeedForward& block, const Matrix& residual,
                         const Matrix& out) {
    feed_forward(work, std::nullopt, x, block, residual, out);
}

}  // namespace lrengine
