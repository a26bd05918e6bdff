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

    // Whether apply() does nothing but ban ids that do not depend on the history: then the likeliest token that is not
    // banned is among the 1 + most_banned() likeliest.
    bool only_bans() const { return repetition_penalty_ == 1.0 && ngram_size_ == 0; }
    std::int64_t most_banned() const;
    bool bans(std::int32_t token, std::int64_t generated) const;

    double repetition_penalty() const { return repetition_penalty_; }
    std::int64_t ngram_size() const { return ngram_size_; }
    std::span<const std::int32_t> suppressed() const { return suppressed_; }
    std::span<const std::int32_t> end_tokens() const { return end_tokens_; }
    std::int64_t min_new_tokens() const { return min_new_tokens_; }

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
