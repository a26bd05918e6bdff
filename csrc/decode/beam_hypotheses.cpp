#include "decode/beam_hypotheses.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace lrengine {

namespace {

// What transformers adds to scores that must not win; in float32, as there, so that ties fall alike.
constexpr float kBarred = -1.0e9f;

// Indices of the `count` largest scores, falling, ties by the lower index; NaN (inf - inf) counts as -inf.
std::vector<std::size_t> largest(std::vector<float> scores, std::int64_t count) {
    for (float& score : scores) {
        if (std::isnan(score)) score = -std::numeric_limits<float>::infinity();
    }
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    order.resize(std::min(order.size(), static_cast<std::size_t>(count)));
    return order;
}

}  // namespace

BeamHypotheses::BeamHypotheses(const GenerationOptions& options, std::int64_t max_new_tokens,
                               std::span<const std::int32_t> end_tokens, const StopHook& stop, std::int64_t source)
    : num_beams_(options.num_beams),
      num_return_sequences_(options.num_return_sequences),
      max_new_tokens_(max_new_tokens),
      length_penalty_(options.length_penalty),
      early_stopping_(options.early_stopping),
      end_tokens_(end_tokens.begin(), end_tokens.end()),
      stop_(stop),
      source_(source) {
    // All beams start equal: only the first may have successors, or they would all be the same.
    running_.assign(static_cast<std::size_t>(num_beams_), Running{{}, {}, kBarred, 0});
    running_.front().score = 0.0f;
    finished_.assign(static_cast<std::size_t>(num_beams_), Finished{{}, kBarred, false});
}

std::int64_t BeamHypotheses::candidates(const GenerationOptions& options, std::size_t end_tokens) {
    return std::max<std::int64_t>(2, 1 + static_cast<std::int64_t>(end_tokens)) * options.num_beams;
}

void BeamHypotheses::update(std::span<const Continuation> continuations) {
    const auto length = static_cast<std::int64_t>(running_.front().tokens.size()) + 1;
    std::vector<FinishReason> reasons(continuations.size(), FinishReason::kCancelled);
    bool all_hit = true;
    for (std::size_t i = 0; i < continuations.size(); ++i) {
        all_hit = hits_stop(continuations[i], length, reasons[i]) && all_hit;
    }
    collect_finished(continuations, reasons, length);
    select_running(continuations, reasons);
    improvable_ = improvable_ && improvement_possible(length);
    const bool full = std::all_of(finished_.begin(), finished_.end(), [](const Finished& f) { return f.finished; });
    done_ = !improvable_ || (full && early_stopping_ == EarlyStopping::kFirst) || all_hit;
}

bool BeamHypotheses::hits_stop(const Continuation& continuation, std::int64_t length, FinishReason& reason) const {
    if (std::find(end_tokens_.begin(), end_tokens_.end(), continuation.token) != end_tokens_.end()) {
        reason = FinishReason::kStop;
    } else if (stop_ && stop_(source_, extended(continuation).tokens)) {
        reason = FinishReason::kStop;
    } else if (length >= max_new_tokens_) {
        reason = FinishReason::kLength;
    }
    return reason != FinishReason::kCancelled;
}

Hypothesis BeamHypotheses::extended(const Continuation& continuation) const {
    const Running& parent = running_[static_cast<std::size_t>(continuation.parent)];
    Hypothesis hypothesis{parent.tokens, parent.token_log_probs, FinishReason::kCancelled};
    hypothesis.tokens.push_back(continuation.token);
    hypothesis.token_log_probs.push_back(continuation.log_prob);
    return hypothesis;
}

float BeamHypotheses::penalised(float score, std::int64_t length) const {
    return score / static_cast<float>(std::pow(static_cast<double>(length), length_penalty_));
}

void BeamHypotheses::collect_finished(std::span<const Continuation> continuations,
                                      std::span<const FinishReason> reasons, std::int64_t length) {
    const bool full = std::all_of(finished_.begin(), finished_.end(), [](const Finished& f) { return f.finished; });
    const auto beams = static_cast<std::size_t>(num_beams_);
    std::vector<float> scores;
    for (const Finished& finished : finished_) scores.push_back(finished.score);
    for (std::size_t i = 0; i < continuations.size(); ++i) {
        const bool may_finish = i < beams && reasons[i] != FinishReason::kCancelled;
        float score = penalised(continuations[i].score, length);
        if (full && early_stopping_ == EarlyStopping::kFirst) score += kBarred;
        if (!improvable_) score += kBarred;
        if (!may_finish) score += kBarred;
        scores.push_back(score);
    }
    std::vector<Finished> merged;
    for (const std::size_t index : largest(scores, num_beams_)) {
        if (index < beams) {
            merged.push_back(std::move(finished_[index]));
            continue;
        }
        const std::size_t i = index - beams;
        const bool finished = i < beams && reasons[i] != FinishReason::kCancelled;
        merged.push_back({extended(continuations[i]), scores[index], finished});
        if (!finished) continue;
        Hypothesis& hypothesis = merged.back().hypothesis;
        hypothesis.finish_reason = reasons[i];
        const bool ended =
            std::find(end_tokens_.begin(), end_tokens_.end(), continuations[i].token) != end_tokens_.end();
        if (ended) hypothesis.tokens.pop_back();
    }
    finished_ = std::move(merged);
}

void BeamHypotheses::select_running(std::span<const Continuation> continuations,
                                    std::span<const FinishReason> reasons) {
    std::vector<float> scores;
    for (std::size_t i = 0; i < continuations.size(); ++i) {
        scores.push_back(continuations[i].score + (reasons[i] != FinishReason::kCancelled ? kBarred : 0.0f));
    }
    std::vector<Running> next;
    for (const std::size_t index : largest(scores, num_beams_)) {
        Hypothesis hypothesis = extended(continuations[index]);
        next.push_back({std::move(hypothesis.tokens), std::move(hypothesis.token_log_probs), scores[index],
                        continuations[index].parent});
    }
    running_ = std::move(next);
}

bool BeamHypotheses::improvement_possible(std::int64_t length) const {
    const bool to_the_end = early_stopping_ == EarlyStopping::kNever && length_penalty_ > 0.0;
    const float best = penalised(running_.front().score, to_the_end ? max_new_tokens_ : length);
    float worst = finished_.front().score;
    for (const Finished& finished : finished_) worst = std::min(worst, finished.score);
    return std::any_of(finished_.begin(), finished_.end(),
                       [&](const Finished& finished) { return best > (finished.finished ? worst : kBarred); });
}

std::vector<Hypothesis> BeamHypotheses::results() const {
    std::vector<Hypothesis> answers;
    for (const Finished& finished : finished_) {
        if (finished.finished) answers.push_back(finished.hypothesis);
    }
    for (const Running& running : running_) {
        answers.push_back({running.tokens, running.token_log_probs, FinishReason::kCancelled});
    }
    answers.resize(std::min(answers.size(), static_cast<std::size_t>(num_return_sequences_)));
    return answers;
}

}  // namespace lrengine
