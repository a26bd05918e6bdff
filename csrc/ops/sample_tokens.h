// Rows of scores on the device: what the processors make of logits, and tokens drawn from them.
#pragma once

#include "ops/take_tokens.h"

namespace lrengine {

// scores[m] = logits[m] - offsets[m], then, in this order (decode/logits_processors.h has the meaning):
//   repetition_penalty p: for each token of the row's history once: score < 0 ? score * p : score / p
//   no_repeat_ngram n > 0: -inf for tokens that would complete an n-gram of the history
//   banned: -inf
// logits, scores [M, V] float32; offsets [M] or null.
struct ProcessScoresArgs {
    Matrix logits, scores;
    const float* offsets = nullptr;
    TokenHistory history;
    const std::int32_t* generated = nullptr;  // [M]: StepRows has it
    float repetition_penalty = 1.0f;
    std::int32_t no_repeat_ngram = 0;
    BannedTokens banned;
};

// Draws ids[m] from scores [M, V] float32, which it changes, as decode/warpers.h has it: temperature, top_k, top_p, and
// the number (step generated[m], index 0) of the row's random stream.
struct SampleTokensArgs {
    Matrix scores;
    float temperature = 1.0f;
    std::int64_t top_k = 0;
    double top_p = 1.0;
    const std::uint64_t* streams = nullptr;   // [M, 2] of each row: seed and stream of decode/random.h
    const std::int32_t* generated = nullptr;  // [M]
    std::int64_t sorted = 1024;               // candidates that are sorted before top_p is looked for without order
    std::int32_t* ids = nullptr;              // [M]
};

}  // namespace lrengine
