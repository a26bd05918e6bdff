// Element-wise functions that ops apply to their outputs.
#pragma once

namespace lrengine {

enum class Activation {
    kNone,
    kRelu,
    kGelu,      // exact: x/2 (1 + erf(x / sqrt 2))
    kGeluTanh,  // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    kSilu,      // x / (1 + exp(-x))
    kTanh,
};

}  // namespace lrengine
