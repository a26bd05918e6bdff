// From logits to candidates.
#pragma once

#include "core/tensor.h"

namespace lrengine {

// For each row of logits [M, V]: the k largest, in falling order (ties: the smaller id first), and log-sum-exp of the
// row. values [M, k] float32, ids [M, k] int32, log_sum_exp [M] or null. 1 <= k <= V. To the k
// largest a NaN is -inf; log_sum_exp of a row that holds one is NaN, and -inf of a row of -inf.
struct TopKArgs {
    Matrix logits;
    std::int64_t k = 1;
    Matrix values;
    std::int32_t* ids = nullptr;
    float* log_sum_exp = nullptr;
};

// The k likeliest tokens of x W^T + bias and its log-sum-exp, as TopKArgs, without keeping logits where the device can
// do so. x [M, K], weight [V, K], bias [V] or null.
struct ProjectTopKArgs {
    Matrix x;
    Weight weight;
    Vector bias;
    std::int64_t k = 1;
    Matrix values;
    std::int32_t* ids = nullptr;
    float* log_sum_exp = nullptr;
};

// log_probs[m] = logits[m, ids[m]] - log_sum_exp(logits[m]); M rows.
struct TokenLogProbArgs {
    Matrix logits;
    const std::int32_t* ids = nullptr;
    float* log_probs = nullptr;
};

}  // namespace lrengine
