// The bookkeeping of a beam search for one source, without a model: transformers' rules, exactly.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "decode/options.h"
#include "decode/search.h"

namespace lrengine {

// One way to go on: beam `parent` followed by `token`.
struct Continuation {
    float score;  // of the whole sequence, as the search ranks it
    std::int32_t parent;
    std::int32_t token;
    float log_prob;  // of the token under the model itself
};

class BeamHypotheses {
public:
    struct Running {
        std::vector<std::int32_t> tokens;  // generated
        std::vector<float> token_log_probs;
        float score;
        std::int32_t parent;  // in the running beams before the last update; 0 at first
    };

    // `source`: the number that `stop` is called with.
    BeamHypotheses(const GenerationOptions& options, std::int64_t max_new_tokens,
                   std::span<const std::int32_t> end_tokens, const StopHook& stop, std::int64_t source);

    // K = max(2, 1 + end tokens) * num_beams: enough that num_beams of them do not end.
    static std::int64_t candidates(const GenerationOptions& options, std::size_t end_tokens);

    // The K continuations of the running beams, in the order in which they were selected (falling score; when sampling,
    // the order drawn): only the first num_beams of them may finish.
    void update(std::span<const Continuation> continuations);

    bool done() const { return done_; }
    const std::vector<Running>& running() const { return running_; }

    // Best first; when cancelled early, running beams fill up.
    std::vector<Hypothesis> results() const;

private:
    struct Finished {
        Hypothesis hypothesis;
        float score;
        bool finished;
    };

    bool hits_stop(const Continuation& continuation, std::int64_t length, FinishReason& reason) const;
    Hypothesis extended(const Continuation& continuation) const;
    void collect_finished(std::span<const Continuation> continuations, std::span<const FinishReason> reasons,
                          std::int64_t length);
    void select_running(std::span<const Continuation> continuations, std::span<const FinishReason> reasons);
    bool improvement_possible(std::int64_t length) const;
    float penalised(float score, std::int64_t length) const;

    std::int64_t num_beams_, num_return_sequences_, max_new_tokens_;
    double length_penalty_;
    EarlyStopping early_stopping_;
    std::vector<std::int32_t> end_tokens_;
    StopHook stop_;
    std::int64_t source_;
    std::vector<Running> running_;
    std::vector<Finished> finished_;
    bool improvable_ = true;
    bool done_ = false;
};

}  // namespace lrengine
