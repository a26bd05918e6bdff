// Changes to a row of scores before a token is chosen, with the meaning and order of transformers' processors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "decode/options.h"

namespace lrengine {

class LogitsProcessors {
public:
    // `end_tokens`: ids that end a row.
    LogitsProcessors(const GenerationOptions& options, std::span<const std::int32_t> end_tokens);

    // False: apply() would change nothing in any step.
    bool active() const;

    // scores [V]: logits (greedy, sampling) or log-probabilities (beams), changed in place. `history`: the target so
    // far, forced tokens first; `generated`: how many of them were not forced. In this order:
    //   repetition_penalty: each token of the history once: score < 0 ? score * penalty : score / penalty
    //   no_repeat_ngram_size n: -inf for tokens that would complete an n-gram of the history
    //   min_new_tokens: -inf for end tokens while generated < min_new_tokens
    //   suppress_tokens: -inf
    void apply(std::span<const std::int32_t> history, std::int64_t generated, std::span<float> scores);

private:
    void penalise_repetition(std::span<const std::int32_t> history, std::span<float> scores);
    void ban_ngrams(std::span<const std::int32_t> history, std::span<float> scores) const;

    double repetition_penalty_;
    std::int64_t ngram_size_;
    std::int64_t min_new_tokens_;
    std::vector<std::int32_t> suppressed_;
    std::vector<std::int32_t> end_tokens_;
    std::vector<std::int32_t> distinct_;
};

}  // namespace lrengine
