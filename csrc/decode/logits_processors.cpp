#include "decode/logits_processors.h"

#include <algorithm>
#include <limits>

namespace lrengine {

namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool in_vocabulary(std::int32_t id, std::span<const float> scores) {
    return id >= 0 && static_cast<std::size_t>(id) < scores.size();
}

}  // namespace

LogitsProcessors::LogitsProcessors(const GenerationOptions& options, std::span<const std::int32_t> end_tokens)
    : repetition_penalty_(options.repetition_penalty),
      ngram_size_(options.no_repeat_ngram_size),
      min_new_tokens_(options.min_new_tokens),
      suppressed_(options.suppress_tokens),
      end_tokens_(end_tokens.begin(), end_tokens.end()) {}

bool LogitsProcessors::active() const {
    return repetition_penalty_ != 1.0 || ngram_size_ > 0 || min_new_tokens_ > 0 || !suppressed_.empty();
}

std::int64_t LogitsProcessors::most_banned() const {
    return std::ssize(suppressed_) + (min_new_tokens_ > 0 ? std::ssize(end_tokens_) : 0);
}

bool LogitsProcessors::bans(std::int32_t token, std::int64_t generated) const {
    const auto among = [token](const std::vector<std::int32_t>& ids) {
        return std::find(ids.begin(), ids.end(), token) != ids.end();
    };
    return among(suppressed_) || (generated < min_new_tokens_ && among(end_tokens_));
}

void LogitsProcessors::apply(std::span<const std::int32_t> history, std::int64_t generated, std::span<float> scores) {
    if (repetition_penalty_ != 1.0) penalise_repetition(history, scores);
    if (ngram_size_ > 0) ban_ngrams(history, scores);
    if (generated < min_new_tokens_) {
        for (const std::int32_t id : end_tokens_) {
            if (in_vocabulary(id, scores)) scores[id] = kNever;
        }
    }
    for (const std::int32_t id : suppressed_) scores[id] = kNever;
}

void LogitsProcessors::penalise_repetition(std::span<const std::int32_t> history, std::span<float> scores) {
    distinct_.assign(history.begin(), history.end());
    std::sort(distinct_.begin(), distinct_.end());
    distinct_.erase(std::unique(distinct_.begin(), distinct_.end()), distinct_.end());
    const auto penalty = static_cast<float>(repetition_penalty_);
    for (const std::int32_t id : distinct_) {
        if (!in_vocabulary(id, scores)) continue;
        scores[id] = scores[id] < 0.0f ? scores[id] * penalty : scores[id] / penalty;
    }
}

void LogitsProcessors::ban_ngrams(std::span<const std::int32_t> history, std::span<float> scores) const {
    const auto size = static_cast<std::size_t>(ngram_size_);
    if (history.size() < size) return;
    const auto prefix = history.last(size - 1);
    for (std::size_t start = 0; start + size <= history.size(); ++start) {
        const auto window = history.subspan(start, size);
        if (!std::equal(prefix.begin(), prefix.end(), window.begin())) continue;
        if (in_vocabulary(window.back(), scores)) scores[window.back()] = kNever;
    }
}

}  // namespace lrengine
