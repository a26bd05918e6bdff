// The end of a decode step on the device: each row takes its next token, and the step's inputs become the next step's.
// With it steps follow each other without the host, which reads what was taken some steps later.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace lrengine {

// Records of as many steps are kept: so many steps may be unread.
inline constexpr std::int64_t kStepRing = 4;

// The inputs of a step of M rows, in backend memory.
struct StepRows {
    std::int64_t rows = 0;
    std::int64_t capacity = 0;           // positions of a cache slot
    std::int32_t* tokens = nullptr;      // [M] fed
    std::int32_t* positions = nullptr;   // [M] of the token in its row
    std::int32_t* cache_rows = nullptr;  // [M] slot * capacity + position
    std::int32_t* lengths = nullptr;     // [M] position + 1
    std::int32_t* history = nullptr;    // [M, capacity] slot that holds a position, up to this one; null: the row's own
    std::int32_t* generated = nullptr;  // [M] tokens that the row has, this one included
};

// Ids that no row takes, in backend memory: `suppressed` never, `ends` while a row has fewer than min_new_tokens.
struct BannedTokens {
    const std::int32_t* suppressed = nullptr;
    const std::int32_t* ends = nullptr;
    std::int32_t suppressed_count = 0;
    std::int32_t end_count = 0;
    std::int32_t min_new_tokens = 0;
};

// The tokens of each row, forced and generated, for the processors that look at them, in backend memory.
struct TokenHistory {
    std::int32_t* tokens = nullptr;   // [M, stride]; null: nobody looks at them
    std::int32_t* lengths = nullptr;  // [M]
    std::int64_t stride = 0;          // more than any length
};

// What the host is told of a row.
struct TokenRecord {
    std::int32_t token;
    float logit;
    float log_sum_exp;
};

// Row m takes the first of its candidates that is not banned; 0, with a logit of -inf, if all are or have -inf. With
// whole rows of logits it takes its first candidate as it is, and the logit is the row's. The record goes to
// records[generated[m] % kStepRing, m], in memory of Backend::mailbox(). Then the row is one token longer; at the end
// of its slot it stays where it is. Step::history names the row's own slot there already.
struct TakeTokensArgs {
    StepRows step;
    Matrix values;                       // [M, k] float32, falling: as TopKArgs gives them
    const std::int32_t* ids = nullptr;   // [M, k]
    const float* log_sum_exp = nullptr;  // [M]
    BannedTokens banned;
    Matrix logits;  // [M, V] float32 or null
    TokenHistory history;
    TokenRecord* records = nullptr;  // [kStepRing, M]
};

}  // namespace lrengine
