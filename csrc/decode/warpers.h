// What sampling leaves of a distribution: temperature, then top_k, then top_p, as transformers' warpers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/options.h"

namespace lrengine {

struct Candidate {
    float score;
    std::int32_t token;
};

// Keeps, in `kept`, the tokens that may be drawn with scores divided by the temperature; falling order of scores when
// top_p is set, of ids otherwise. At least `min_tokens` of the vocabulary remain.
//   top_k: tokens whose score is that of the k-th or more (k at least min_tokens)
//   top_p: a token stays while the likelier ones together have less than top_p
void warp(std::span<const float> scores, const GenerationOptions& options, std::int64_t min_tokens,
          std::vector<Candidate>& kept);

// The token whose stretch of the cumulated softmax(score) holds `uniform` in (0, 1). `candidates` is not empty.
std::int32_t draw(std::span<const Candidate> candidates, double uniform);

// The k largest of `candidates`, in falling order, ties by the smaller token, moved to the front; the rest is dropped.
void keep_largest(std::vector<Candidate>& candidates, std::int64_t k);

}  // namespace lrengine
