// Greedy decoding and sampling: every row goes its own way until it ends and leaves the batch.
#pragma once

#include <optional>

#include "decode/batch_rows.h"
#include "decode/logits_processors.h"
#include "decode/logits_reader.h"
#include "decode/random.h"
#include "decode/search.h"
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
    // Runs the model over what is to be fed; gives the number of its rows.
    std::int64_t forward();
    std::int32_t choose(const Row& row, std::int64_t logits_row);
    void take(Row& row, std::int32_t token, std::int64_t logits_row);

    GenerationOptions options_;
    std::vector<std::int32_t> end_tokens_;
    StopHook stop_;
    std::unique_ptr<DecodeState> state_;
    std::vector<std::int64_t> limits_;
    LogitsProcessors processors_;
    LogitsReader reader_;
    std::optional<BatchRows> batch_;  // empty before the first step
    std::vector<Row> rows_;
    std::vector<std::size_t> active_;
    std::vector<float> raw_, scores_;  // [V]: one row, before and after the processors
    std::vector<Candidate> kept_;
    std::int64_t steps_ = 0;
};

}  // namespace lrengine
