#include "decode/token_search.h"

#include <algorithm>

namespace lrengine {

TokenSearch::TokenSearch(const Generator& generator, const SearchRequest& request)
    : options_(request.options),
      end_tokens_(request.end_tokens),
      stop_(request.stop),
      state_(generator.begin(request.sources, options_.num_return_sequences, options_.max_new_tokens)),
      limits_(token_limits(generator, *state_, request.sources.size(), options_.max_new_tokens)),
      processors_(options_, end_tokens_),
      reader_(*state_, static_cast<std::int64_t>(request.sources.size()) * options_.num_return_sequences,
              generator.vocab_size(), 1, options_.do_sample || processors_.active()) {
    const auto streams = source_streams(request.sources);
    for (std::size_t source = 0; source < request.sources.size(); ++source) {
        for (std::int64_t sample = 0; sample < options_.num_return_sequences; ++sample) {
            append_row(request, static_cast<std::int64_t>(source), sample, streams[source]);
        }
    }
    if (options_.do_sample || processors_.active()) {
        raw_.resize(static_cast<std::size_t>(generator.vocab_size()));
        scores_.resize(raw_.size());
        if (options_.do_sample) kept_.reserve(raw_.size());
    }
}

void TokenSearch::append_row(const SearchRequest& request, std::int64_t source, std::int64_t sample,
                             std::uint64_t stream) {
    const auto number = static_cast<std::int32_t>(sample);
    const auto forced = request.sources[static_cast<std::size_t>(source)].forced;
    const auto limit = static_cast<std::size_t>(limits_[static_cast<std::size_t>(source)]);
    Row row{.source = source,
            .slot = source * options_.num_return_sequences + sample,
            .random = RandomStream(options_.seed.value_or(0), mix_hash(stream, std::span(&number, 1))),
            .history = {forced.begin(), forced.end()},
            .slots_of_positions = {},
            .hypothesis = {}};
    row.history.reserve(forced.size() + limit);
    row.hypothesis.tokens.reserve(limit);
    row.hypothesis.token_log_probs.reserve(limit);
    active_.push_back(rows_.size());
    rows_.push_back(std::move(row));
}

std::int64_t TokenSearch::forward() {
    const bool several = options_.num_return_sequences > 1;
    if (!batch_) {
        state_->prefill();
        batch_.emplace(static_cast<std::int64_t>(rows_.size()), state_->capacity(), several);
        if (several) {
            // Samples of a source read what was prefilled from its first slot and the rest from their own.
            for (Row& row : rows_) {
                const auto first = static_cast<std::int32_t>(row.source * options_.num_return_sequences);
                row.slots_of_positions.assign(static_cast<std::size_t>(state_->capacity()),
                                              static_cast<std::int32_t>(row.slot));
                std::fill_n(row.slots_of_positions.begin(), state_->prefill_length(row.source), first);
            }
        }
        return static_cast<std::int64_t>(limits_.size());
    }
    batch_->clear();
    for (const std::size_t index : active_) {
        const Row& row = rows_[index];
        // The newest token is the one being fed: it is not in the cache yet.
        const std::int64_t length = state_->prefill_length(row.source) + steps_ - 1;
        batch_->add(row.history.back(), row.slot, row.source, length, row.slots_of_positions);
    }
    state_->step(batch_->input());
    return batch_->rows();
}

void TokenSearch::advance() {
    const bool first = !batch_.has_value();
    reader_.read(forward());
    for (std::size_t position = 0; position < active_.size(); ++position) {
        Row& row = rows_[active_[position]];
        const std::int64_t logits_row = first ? row.source : static_cast<std::int64_t>(position);
        take(row, choose(row, logits_row), logits_row);
    }
    ++steps_;
    std::erase_if(active_, [this](std::size_t index) {
        return rows_[index].hypothesis.finish_reason != FinishReason::kCancelled;
    });
}

std::int32_t TokenSearch::choose(const Row& row, std::int64_t logits_row) {
    if (raw_.empty()) return reader_.ids(logits_row)[0];
    reader_.row(logits_row, raw_);
    std::copy(raw_.begin(), raw_.end(), scores_.begin());
    processors_.apply(row.history, steps_, scores_);
    if (!options_.do_sample) {
        return static_cast<std::int32_t>(std::max_element(scores_.begin(), scores_.end()) - scores_.begin());
    }
    warp(scores_, options_, 1, kept_);
    return draw(kept_, row.random.uniform(static_cast<std::uint32_t>(steps_), 0));
}

void TokenSearch::take(Row& row, std::int32_t token, std::int64_t logits_row) {
    const float logit = raw_.empty() ? reader_.values(logits_row)[0] : raw_[static_cast<std::size_t>(token)];
    Hypothesis& hypothesis = row.hypothesis;
    hypothesis.token_log_probs.push_back(logit - reader_.log_sum_exp(logits_row));
    if (std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end()) {
        hypothesis.finish_reason = FinishReason::kStop;
        return;
    }
    hypothesis.tokens.push_back(token);
    row.history.push_back(token);
    const bool at_limit = steps_ + 1 >= limits_[static_cast<std::size_t>(row.source)];
    if (stop_ && stop_(row.source, hypothesis.tokens)) {
        hypothesis.finish_reason = FinishReason::kStop;
    } else if (at_limit) {
        hypothesis.finish_reason = FinishReason::kLength;
    }
}

std::vector<std::vector<Hypothesis>> TokenSearch::results() const {
    std::vector<std::vector<Hypothesis>> answers(limits_.size());
    for (const Row& row : rows_) answers[static_cast<std::size_t>(row.source)].push_back(row.hypothesis);
    return answers;
}

}  // namespace lrengine
