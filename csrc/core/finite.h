// What a model computes is finite; anything else is the checkpoint's or the element type's doing and never an answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

#include "core/error.h"

namespace lrengine {

// Throws Error(kModelFile) unless all numbers are finite; `what`: the plural noun for them, "logits".
inline void require_finite(std::span<const float> values, const char* what) {
    if (std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) return;
    fail(ErrorCode::kModelFile,
         std::string("the model's ") + what + " are not finite: weights or element type overflow");
}

}  // namespace lrengine
