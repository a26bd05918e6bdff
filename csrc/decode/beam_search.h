// Beam search and beam sampling over a batch; each source searches as if it were alone.
#pragma once

#include <optional>

#include "decode/batch_rows.h"
#include "decode/beam_hypotheses.h"
#include "decode/logits_processors.h"
#include "decode/logits_reader.h"
#include "decode/random.h"
#include "decode/search.h"
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
    };
    // A continuation and what orders it: its score, or when sampling, its score with noise.
    struct Ranked {
        Continuation continuation;
        float rank;
    };

    // Runs the model over what is to be fed; gives the number of its rows.
    std::int64_t forward();
    void prepare_histories();
    void collect(std::int64_t source, std::int64_t beam, std::int64_t logits_row);
    void collect_processed(std::int64_t source, std::int64_t beam, std::int64_t logits_row);
    void update(std::int64_t source);

    GenerationOptions options_;
    std::size_t end_tokens_;
    std::int64_t candidates_;
    std::unique_ptr<DecodeState> state_;
    LogitsProcessors processors_;
    LogitsReader reader_;
    std::optional<BatchRows> batch_;  // empty before the first step
    std::vector<Source> sources_;
    std::vector<std::int64_t> active_;
    std::vector<Ranked> ranked_;
    std::vector<Continuation> continuations_;
    std::vector<std::int32_t> history_;
    std::vector<float> raw_, scores_;
    std::vector<Candidate> kept_;
    std::int64_t steps_ = 0;
};

}  // namespace lrengine
