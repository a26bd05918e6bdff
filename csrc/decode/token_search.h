// Greedy decoding and sampling: every row goes its own way until it ends and leaves the batch.
//
// Greedy rows of which no more is needed than their likeliest tokens (bans are few; no other processor) run ahead of
// the host where the backend can. Sampling and the other processors look at whole rows of logits, on the host.
#pragma once

#include <optional>

#include "decode/batch_rows.h"
#include "decode/logits_processors.h"
#include "decode/logits_reader.h"
#include "decode/random.h"
#include "decode/search.h"
#include "decode/steps_ahead.h"
#include "decode/warpers.h"

namespace lrengine {

class TokenSearch : public Search {
public:
    TokenSearch(const Generator& generator, const SearchRequest& request);

    std::vector<std::vector<Hypothesis>> results() const override;

protected:
    bool finished() const override { return active_.empty(); }
    void advance() override;

private:
    struct Row {
        std::int64_t source;
        std::int64_t slot;
        RandomStream random;
        std::vector<std::int32_t> history;             // forced and generated tokens
        std::vector<std::int32_t> slots_of_positions;  // only with several samples a source
        Hypothesis hypothesis;
    };

    void append_row(const SearchRequest& request, std::int64_t source, std::int64_t sample, std::uint64_t stream);
    void advance_ahead();
    void start_ahead();
    // How a step that runs ahead ends: from lists of the likeliest tokens, or from whole rows of logits.
    DecodeState::Take make_take(const Workspace& work, const StepRows& step, TokenRecord* records) const;
    DecodeState::Take make_processed_take(const Workspace& work, const StepRows& step, TokenRecord* records) const;
    // Most steps until all active rows have ended.
    std::int64_t steps_left() const;
    // Runs the model over what is to be fed; gives the number of its rows.
    std::int64_t forward();
    void feed_active();
    struct Choice {
        std::int32_t token;
        float logit;
    };
    Choice choose(const Row& row, std::int64_t logits_row);
    void take(Row& row, std::int32_t token, float log_prob);
    // `body` lets the active rows take their tokens; where it throws (the stop hook may), they give them back.
    template <typename Body>
    void take_all(Body body);
    void drop_finished();

    GenerationOptions options_;
    std::vector<std::int32_t> end_tokens_;
    StopHook stop_;
    std::unique_ptr<DecodeState> state_;
    std::vector<std::int64_t> limits_;
    LogitsProcessors processors_;
    bool whole_rows_;  // of logits are looked at
    LogitsReader reader_;
    StepsAhead ahead_;
    std::optional<BatchRows> batch_;  // empty before the first step
    std::vector<Row> rows_;
    std::vector<std::size_t> active_;
    std::vector<std::size_t> ahead_rows_;  // that run ahead, ended ones included
    std::vector<float> raw_, scores_;      // [V]: one row, before and after the processors
    std::vector<Candidate> kept_;
    std::int64_t steps_ = 0;
};

}  // namespace lrengine
