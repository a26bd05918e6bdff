// out[m] = scale * word[ids[m]] + position[positions[m]] + type
#pragma once

#include "core/tensor.h"

namespace lrengine {

// ids [M] (checked by the caller to be in [0, word.rows)), positions [M] or null with position table [P, D] or null,
// type [D] or null (token type 0's row), out [M, D].
struct EmbeddingArgs {
    const std::int32_t* ids = nullptr;
    const std::int32_t* positions = nullptr;
    Weight word;
    Weight position;
    Vector type;
    float scale = 1.0f;  // sqrt(D) for NLLB, 1 elsewhere
    Matrix out;
};

}  // namespace lrengine
