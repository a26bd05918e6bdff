// Beam search and beam sampling over a batch; each source searches as if it were alone.
//
// Where the backend can, beams run ahead of the host (decode/steps_ahead.h) from the second token on. On the host stay
// beam sampling, whose noise orders all tokens; a stop hook, on which the running beams depend; and more beams than the
// device ranks (kMostRankedBeams) or the vocabulary has tokens for.
#pragma once

#include <optional>

#include "decode/batch_rows.h"
#include "decode/beam_hypotheses.h"
#include "decode/logits_processors.h"
#include "decode/logits_reader.h"
#include "decode/random.h"
#include "decode/search.h"
#include "decode/steps_ahead.h"
#include "decode/warpers.h"

namespace lrengine {

class BeamSearch : public Search {
public:
    BeamSearch(const Generator& generator, const SearchRequest& request);

    std::vector<std::vector<Hypothesis>> results() const override;

protected:
    bool finished() const override { return active_.empty(); }
    void advance() override;

private:
    struct Source {
        BeamHypotheses beams;
        RandomStream random;
        std::vector<std::int32_t> forced;
        std::vector<std::vector<std::int32_t>> slots_of_positions;  // per running beam
        std::optional<BeamHypotheses> updated = {};  // by the step that is made: all sources take theirs, or none does
    };
    // A continuation and what orders it: its score, or when sampling, its score with noise.
    struct Ranked {
        Continuation continuation;
        float rank;
    };

    // Runs the model over what is to be fed; gives the number of its rows.
    std::int64_t forward();
    void feed_active();
    // Names each beam's own slot where its newest token goes.
    void write_slots(std::int64_t source);
    void advance_ahead();
    void start_ahead();
    DecodeState::Take make_take(const Workspace& work, const StepRows& step, BeamRecord* records) const;
    // Lets the beams be chosen from whole rows of logits, which processors change.
    void add_processors(const Workspace& work, TakeBeamsArgs& args, DecodeState::Take& take) const;
    // Most steps until all active sources are done.
    std::int64_t steps_left() const;
    void prepare_histories();
    void collect(std::int64_t source, std::int64_t beam, std::int64_t logits_row);
    void collect_processed(std::int64_t source, std::int64_t beam, std::int64_t logits_row);
    // Makes continuations_ of ranked_.
    void select();
    // Makes `updated` of continuations_, with the stop hook, which may throw.
    void update(std::int64_t source);
    void take_updated();
    void drop_finished();

    GenerationOptions options_;
    std::size_t end_tokens_;
    std::int64_t candidates_;
    std::unique_ptr<DecodeState> state_;
    std::vector<std::int64_t> limits_;
    LogitsProcessors processors_;
    bool whole_rows_;      // of logits are looked at
    std::int64_t listed_;  // likeliest tokens of a row that are asked for
    LogitsReader reader_;
    bool runs_ahead_;
    StepsAhead ahead_;
    std::optional<BatchRows> batch_;  // empty before the first step
    std::vector<Source> sources_;
    std::vector<std::int64_t> active_;
    std::vector<std::int64_t> ahead_sources_;  // that run ahead, finished ones included
    std::vector<Ranked> ranked_;
    std::vector<Continuation> continuations_;
    std::vector<std::int32_t> history_;
    std::vector<float> raw_, scores_;
    std::vector<Candidate> kept_;
    std::int64_t steps_ = 0;
};

}  // namespace lrengine
