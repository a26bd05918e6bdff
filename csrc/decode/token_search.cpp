#include "decode/token_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/finite.h"
#include "ops/backend.h"

namespace lrengine {

TokenSearch::TokenSearch(const Generator& generator, const SearchRequest& request)
    : Search(request),
      options_(request.options),
      end_tokens_(request.end_tokens),
      stop_(request.stop),
      state_(generator.begin(request.sources, options_.num_return_sequences, options_.max_new_tokens)),
      limits_(token_limits(generator, *state_, request.sources.size(), options_.max_new_tokens)),
      processors_(options_, end_tokens_),
      whole_rows_(options_.do_sample || !chosen_from_lists(processors_, 1, generator.vocab_size())),
      reader_(*state_, static_cast<std::int64_t>(request.sources.size()) * options_.num_return_sequences,
              generator.vocab_size(), whole_rows_ ? 1 : 1 + processors_.most_banned(), whole_rows_),
      ahead_(*state_) {
    const auto streams = source_streams(request.sources);
    for (std::size_t source = 0; source < request.sources.size(); ++source) {
        for (std::int64_t sample = 0; sample < options_.num_return_sequences; ++sample) {
            append_row(request, static_cast<std::int64_t>(source), sample, streams[source]);
        }
    }
    if (whole_rows_) {
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
        prefill(*state_);
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
    feed_active();
    state_->step(batch_->input());
    return batch_->rows();
}

void TokenSearch::feed_active() {
    batch_->clear();
    for (const std::size_t index : active_) {
        const Row& row = rows_[index];
        // The newest token is the one being fed: it is not in the cache yet.
        const std::int64_t length = state_->prefill_length(row.source) + steps_ - 1;
        batch_->add(row.history.back(), row.slot, row.source, length, row.slots_of_positions);
    }
}

void TokenSearch::advance() {
    const bool first = !batch_.has_value();
    if (!first && state_->backend().runs_ahead()) {
        advance_ahead();
        return;
    }
    reader_.read(forward());
    take_all([&] {
        for (std::size_t position = 0; position < active_.size(); ++position) {
            Row& row = rows_[active_[position]];
            const std::int64_t logits_row = first ? row.source : static_cast<std::int64_t>(position);
            const Choice choice = choose(row, logits_row);
            take(row, choice.token, choice.logit - reader_.log_sum_exp(logits_row));
        }
    });
    drop_finished();
}

template <typename Body>
void TokenSearch::take_all(Body body) {
    try {
        body();
    } catch (...) {
        for (const std::size_t index : active_) {
            Hypothesis& hypothesis = rows_[index].hypothesis;
            const auto before = static_cast<std::size_t>(steps_);
            hypothesis.tokens.resize(std::min(hypothesis.tokens.size(), before));
            hypothesis.token_log_probs.resize(std::min(hypothesis.token_log_probs.size(), before));
            hypothesis.finish_reason = FinishReason::kCancelled;
        }
        throw;
    }
}

void TokenSearch::drop_finished() {
    ++steps_;
    std::erase_if(active_, [this](std::size_t index) {
        return rows_[index].hypothesis.finish_reason != FinishReason::kCancelled;
    });
}

std::int64_t TokenSearch::steps_left() const {
    std::int64_t longest = 0;
    for (const std::size_t index : active_) {
        longest = std::max(longest, limits_[static_cast<std::size_t>(rows_[index].source)]);
    }
    return longest - steps_;
}

void TokenSearch::start_ahead() {
    feed_active();
    ahead_rows_ = active_;
    const auto record_bytes = static_cast<std::int64_t>(active_.size() * sizeof(TokenRecord));
    ahead_.start(batch_->input(), steps_, steps_left(), record_bytes,
                 [this](const Workspace& work, const StepRows& step, void* records) {
                     return make_take(work, step, static_cast<TokenRecord*>(records));
                 });
}

DecodeState::Take TokenSearch::make_take(const Workspace& work, const StepRows& step, TokenRecord* records) const {
    if (whole_rows_) return make_processed_take(work, step, records);
    const TopTokens top = reader_.selection(step.rows);
    const TakeTokensArgs args{.step = step,
                              .values = top.values,
                              .ids = top.ids,
                              .log_sum_exp = top.log_sum_exp,
                              .banned = StepsAhead::upload(processors_, work),
                              .logits = {},
                              .history = {},
                              .records = records};
    DecodeState::Take take{[this, args] { state_->backend().take_tokens(args); }, {}};
    describe(take.signature, records);
    describe(take.signature, args.banned);
    return take;
}

DecodeState::Take TokenSearch::make_processed_take(const Workspace& work, const StepRows& step,
                                                   TokenRecord* records) const {
    std::vector<std::vector<std::int32_t>> histories;
    std::vector<std::uint64_t> streams;
    for (const std::size_t index : active_) {
        const Row& row = rows_[index];
        histories.push_back(row.history);
        streams.insert(streams.end(), {row.random.seed(), row.random.stream()});
    }
    ProcessScoresArgs process = StepsAhead::upload(processors_, work, step, std::ssize(raw_), histories, steps_left());
    auto* device_streams = work.arena.array<std::uint64_t>(std::ssize(streams));
    work.backend.copy_to_device(device_streams, streams.data(), streams.size() * sizeof(std::uint64_t));
    const Matrix best = work.floats(step.rows, 1);
    auto* ids = work.arena.array<std::int32_t>(step.rows);
    const SampleTokensArgs sample{.scores = process.scores,
                                  .temperature = static_cast<float>(options_.temperature),
                                  .top_k = options_.top_k,
                                  .top_p = options_.top_p,
                                  .streams = device_streams,
                                  .generated = step.generated,
                                  .ids = ids};
    TakeTokensArgs taken{.step = step,
                         .values = best,
                         .ids = ids,
                         .log_sum_exp = reader_.selection(step.rows).log_sum_exp,
                         .banned = {},
                         .logits = {},
                         .history = process.history,
                         .records = records};
    DecodeState::Take take;
    describe(take.signature, records, best.data, ids, options_.do_sample, sample.temperature, sample.top_k,
             sample.top_p, sample.streams);
    describe(take.signature, process);
    take.ops = [this, process, sample, taken, best, ids]() mutable {
        Backend& backend = state_->backend();
        process.logits = taken.logits = state_->logits();
        backend.process_scores(process);
        if (options_.do_sample) {
            backend.sample_tokens(sample);
        } else {
            backend.top_k({.logits = process.scores, .k = 1, .values = best, .ids = ids});
        }
        backend.take_tokens(taken);
    };
    return take;
}

void TokenSearch::advance_ahead() {
    if (!ahead_.running() || worth_shrinking(ahead_rows_.size(), active_.size())) start_ahead();
    const auto* records = static_cast<const TokenRecord*>(ahead_.next());
    const auto ended = [this](std::size_t index) {
        return rows_[index].hypothesis.finish_reason != FinishReason::kCancelled;
    };
    for (std::size_t position = 0; position < ahead_rows_.size(); ++position) {
        if (!ended(ahead_rows_[position])) require_finite(std::span(&records[position].log_sum_exp, 1), "logits");
    }
    take_all([&] {
        for (std::size_t position = 0; position < ahead_rows_.size(); ++position) {
            const TokenRecord& record = records[position];
            if (ended(ahead_rows_[position])) continue;
            take(rows_[ahead_rows_[position]], record.token, record.logit - record.log_sum_exp);
        }
    });
    drop_finished();
}

TokenSearch::Choice TokenSearch::choose(const Row& row, std::int64_t logits_row) {
    if (!whole_rows_) {
        const auto ids = reader_.ids(logits_row);
        const auto values = reader_.values(logits_row);
        for (std::size_t i = 0; i < ids.size(); ++i) {
            if (std::isinf(values[i]) || processors_.bans(ids[i], steps_)) continue;
            return {ids[i], values[i]};
        }
        return {0, -std::numeric_limits<float>::infinity()};
    }
    reader_.row(logits_row, raw_);
    std::copy(raw_.begin(), raw_.end(), scores_.begin());
    processors_.apply(row.history, steps_, scores_);
    std::int32_t token = 0;
    if (options_.do_sample) {
        warp(scores_, options_, 1, kept_);
        token = draw(kept_, row.random.uniform(static_cast<std::uint32_t>(steps_), 0));
    } else {
        token = static_cast<std::int32_t>(std::max_element(scores_.begin(), scores_.end()) - scores_.begin());
    }
    return {token, raw_[static_cast<std::size_t>(token)]};
}

void TokenSearch::take(Row& row, std::int32_t token, float log_prob) {
    Hypothesis& hypothesis = row.hypothesis;
    hypothesis.token_log_probs.push_back(log_prob);
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
