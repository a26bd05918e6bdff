// The end of a beam search's step on the device: the beams of every source are chosen, and its rows take their tokens.
#pragma once

#include <cstdint>

#include "ops/take_tokens.h"

namespace lrengine {

// One way to go on, as the host's BeamHypotheses is told of it.
struct BeamRecord {
    float score;          // of the whole sequence
    std::int32_t parent;  // beam of the source; -1: there were no more
    std::int32_t token;
    float log_prob;  // NaN: logits of the source are not finite
};

// B beams a source, whose rows lie together. With log_prob = value - log_sum_exp[m] and score = log_prob + scores[m],
// in float32, each row's first C candidates that are not banned are ranked: score falling, then parent, then token
// rising. The C best of a source go to records[generated % kStepRing, source]. Its B beams are then the C best ordered
// by score, to which -1e9 is added where the token ends a sequence or reaches limits[source] tokens; NaN is -inf, ties
// keep their order. Rows take over parents' histories, and each names its own slot at its new position.
struct TakeBeamsArgs {
    StepRows step;  // with a history
    std::int64_t beams = 1;
    std::int64_t candidates = 2;  // C <= k
    Matrix values;                // [M, k] float32: as TopKArgs gives them; B * k <= kMostRankedBeams
    const std::int32_t* ids = nullptr;
    const float* log_sum_exp = nullptr;
    BannedTokens banned;
    Matrix logits;  // [M, V] float32 or null: then values are log-probabilities already, changed by processors, of
                    // tokens whose own are logits - log_sum_exp, and nothing is banned
    TokenHistory history;
    const std::int32_t* limits = nullptr;  // [S]
    float* scores = nullptr;               // [M] of the running beams
    BeamRecord* records = nullptr;         // [kStepRing, S, C]
};

inline constexpr std::int64_t kMostRankedBeams = 1024;

}  // namespace lrengine
