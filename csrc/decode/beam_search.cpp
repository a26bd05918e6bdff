#include "decode/beam_search.h"

#include <algorithm>
#include <cmath>

#include "core/finite.h"
#include "ops/backend.h"

namespace lrengine {

BeamSearch::BeamSearch(const Generator& generator, const SearchRequest& request)
    : Search(request),
      options_(request.options),
      end_tokens_(request.end_tokens.size()),
      candidates_(BeamHypotheses::candidates(options_, end_tokens_)),
      state_(generator.begin(request.sources, options_.num_beams, options_.max_new_tokens)),
      limits_(token_limits(generator, *state_, request.sources.size(), options_.max_new_tokens)),
      processors_(options_, request.end_tokens),
      whole_rows_(options_.do_sample || !chosen_from_lists(processors_, candidates_, generator.vocab_size())),
      // Whole rows are looked at by themselves.
      listed_(whole_rows_ ? 1 : candidates_ + processors_.most_banned()),
      reader_(*state_, static_cast<std::int64_t>(request.sources.size()) * options_.num_beams, generator.vocab_size(),
              listed_, whole_rows_),
      runs_ahead_(state_->backend().runs_ahead() && !options_.do_sample && !request.stop &&
                  candidates_ <= generator.vocab_size() &&
                  options_.num_beams * std::max(listed_, candidates_) <= kMostRankedBeams),
      ahead_(*state_) {
    const auto streams = source_streams(request.sources);
    for (std::size_t index = 0; index < request.sources.size(); ++index) {
        const auto forced = request.sources[index].forced;
        sources_.push_back({BeamHypotheses(options_, limits_[index], request.end_tokens, request.stop,
                                           static_cast<std::int64_t>(index)),
                            RandomStream(options_.seed.value_or(0), streams[index]),
                            {forced.begin(), forced.end()},
                            {}});
        active_.push_back(static_cast<std::int64_t>(index));
    }
    if (whole_rows_) {
        raw_.resize(static_cast<std::size_t>(generator.vocab_size()));
        scores_.resize(raw_.size());
        kept_.reserve(raw_.size());
    }
}

void BeamSearch::prepare_histories() {
    for (std::size_t index = 0; index < sources_.size(); ++index) {
        // Everything prefilled is in the source's first slot.
        const auto first = static_cast<std::int32_t>(static_cast<std::int64_t>(index) * options_.num_beams);
        sources_[index].slots_of_positions.assign(
            static_cast<std::size_t>(options_.num_beams),
            std::vector<std::int32_t>(static_cast<std::size_t>(state_->capacity()), first));
    }
}

std::int64_t BeamSearch::forward() {
    if (!batch_) {
        prefill(*state_);
        batch_.emplace(static_cast<std::int64_t>(sources_.size()) * options_.num_beams, state_->capacity(), true);
        prepare_histories();
        return static_cast<std::int64_t>(sources_.size());
    }
    feed_active();
    state_->step(batch_->input());
    return batch_->rows();
}

void BeamSearch::feed_active() {
    batch_->clear();
    for (const std::int64_t index : active_) {
        write_slots(index);
        const Source& source = sources_[static_cast<std::size_t>(index)];
        const std::int64_t length = state_->prefill_length(index) + steps_ - 1;
        std::int64_t slot = index * options_.num_beams;
        for (std::size_t beam = 0; beam < source.beams.running().size(); ++beam, ++slot) {
            batch_->add(source.beams.running()[beam].tokens.back(), slot, index, length,
                        source.slots_of_positions[beam]);
        }
    }
}

// A position of a slot is written once, so what other beams' histories name stays what it was.
void BeamSearch::write_slots(std::int64_t index) {
    const std::int64_t length = state_->prefill_length(index) + steps_ - 1;
    auto slot = static_cast<std::int32_t>(index * options_.num_beams);
    for (auto& slots : sources_[static_cast<std::size_t>(index)].slots_of_positions) {
        slots[static_cast<std::size_t>(length)] = slot++;
    }
}

void BeamSearch::advance() {
    const bool first = !batch_.has_value();
    if (!first && runs_ahead_) {
        advance_ahead();
        return;
    }
    reader_.read(forward());
    std::int64_t row = 0;
    for (const std::int64_t index : active_) {
        ranked_.clear();
        for (std::int64_t beam = 0; beam < options_.num_beams; ++beam) collect(index, beam, first ? index : row++);
        select();
        update(index);
    }
    take_updated();
    drop_finished();
}

void BeamSearch::drop_finished() {
    ++steps_;
    std::erase_if(active_,
                  [this](std::int64_t index) { return sources_[static_cast<std::size_t>(index)].beams.done(); });
}

std::int64_t BeamSearch::steps_left() const {
    std::int64_t longest = 0;
    for (const std::int64_t index : active_) longest = std::max(longest, limits_[static_cast<std::size_t>(index)]);
    return longest - steps_;
}

void BeamSearch::start_ahead() {
    feed_active();
    ahead_sources_ = active_;
    const auto record_bytes = std::ssize(active_) * candidates_ * static_cast<std::int64_t>(sizeof(BeamRecord));
    ahead_.start(batch_->input(), steps_, steps_left(), record_bytes,
                 [this](const Workspace& work, const StepRows& step, void* records) {
                     return make_take(work, step, static_cast<BeamRecord*>(records));
                 });
}

DecodeState::Take BeamSearch::make_take(const Workspace& work, const StepRows& step, BeamRecord* records) const {
    std::vector<std::int32_t> limits;
    std::vector<float> scores;
    for (const std::int64_t index : active_) {
        limits.push_back(static_cast<std::int32_t>(limits_[static_cast<std::size_t>(index)]));
        for (const auto& running : sources_[static_cast<std::size_t>(index)].beams.running()) {
            scores.push_back(running.score);
        }
    }
    auto* device_scores = work.arena.array<float>(std::ssize(scores));
    work.backend.copy_to_device(device_scores, scores.data(), scores.size() * sizeof(float));
    const TopTokens top = reader_.selection(step.rows);
    TakeBeamsArgs args{.step = step,
                       .beams = options_.num_beams,
                       .candidates = candidates_,
                       .values = top.values,
                       .ids = top.ids,
                       .log_sum_exp = top.log_sum_exp,
                       .banned = StepsAhead::upload(processors_, work),
                       .logits = {},
                       .history = {},
                       .limits = work.upload(limits),
                       .scores = device_scores,
                       .records = records};
    DecodeState::Take take;
    describe(take.signature, args.beams, args.candidates, args.limits, args.scores, records);
    describe(take.signature, args.banned);
    if (whole_rows_) {
        add_processors(work, args, take);
    } else {
        take.ops = [this, args] { state_->backend().take_beams(args); };
    }
    return take;
}

void BeamSearch::add_processors(const Workspace& work, TakeBeamsArgs& args, DecodeState::Take& take) const {
    std::vector<std::vector<std::int32_t>> histories;
    for (const std::int64_t index : active_) {
        const Source& source = sources_[static_cast<std::size_t>(index)];
        for (const auto& running : source.beams.running()) {
            histories.push_back(source.forced);
            histories.back().insert(histories.back().end(), running.tokens.begin(), running.tokens.end());
        }
    }
    ProcessScoresArgs process =
        StepsAhead::upload(processors_, work, args.step, std::ssize(raw_), histories, steps_left());
    process.offsets = args.log_sum_exp;
    auto* ids = work.arena.array<std::int32_t>(args.step.rows * candidates_);
    args.values = work.floats(args.step.rows, candidates_);
    args.ids = ids;
    args.history = process.history;
    describe(take.signature, args.values.data, ids);
    describe(take.signature, process);
    take.ops = [this, args, process, ids]() mutable {
        Backend& backend = state_->backend();
        process.logits = args.logits = state_->logits();
        backend.process_scores(process);
        backend.top_k({.logits = process.scores, .k = candidates_, .values = args.values, .ids = ids});
        backend.take_beams(args);
    };
}

void BeamSearch::advance_ahead() {
    if (!ahead_.running() || worth_shrinking(ahead_sources_.size(), active_.size())) start_ahead();
    const auto* records = static_cast<const BeamRecord*>(ahead_.next());
    const auto done = [this](std::int64_t index) { return sources_[static_cast<std::size_t>(index)].beams.done(); };
    for (std::size_t i = 0; i < ahead_sources_.size(); ++i) {
        const float known = records[static_cast<std::int64_t>(i) * candidates_].log_prob;
        if (!done(ahead_sources_[i]) && std::isnan(known)) require_finite(std::span(&known, 1), "logits");
    }
    for (std::size_t i = 0; i < ahead_sources_.size(); ++i, records += candidates_) {
        const std::int64_t index = ahead_sources_[i];
        if (done(index)) continue;
        continuations_.clear();
        for (const BeamRecord& record : std::span(records, static_cast<std::size_t>(candidates_))) {
            if (record.parent < 0) break;
            continuations_.push_back({record.score, record.parent, record.token, record.log_prob});
        }
        write_slots(index);
        update(index);
    }
    take_updated();
    drop_finished();
}

// The K best of one beam are enough: the K best of all are among them.
void BeamSearch::collect(std::int64_t source, std::int64_t beam, std::int64_t logits_row) {
    if (whole_rows_) {
        collect_processed(source, beam, logits_row);
        return;
    }
    const float score =
        sources_[static_cast<std::size_t>(source)].beams.running()[static_cast<std::size_t>(beam)].score;
    const auto values = reader_.values(logits_row);
    const auto ids = reader_.ids(logits_row);
    std::int64_t there = 0;
    for (std::size_t i = 0; i < values.size() && there < candidates_; ++i) {
        if (processors_.bans(ids[i], steps_)) continue;
        ++there;
        const float log_prob = values[i] - reader_.log_sum_exp(logits_row);
        const Continuation continuation{log_prob + score, static_cast<std::int32_t>(beam), ids[i], log_prob};
        ranked_.push_back({continuation, continuation.score});
    }
}

void BeamSearch::collect_processed(std::int64_t source_index, std::int64_t beam, std::int64_t logits_row) {
    const Source& source = sources_[static_cast<std::size_t>(source_index)];
    const BeamHypotheses::Running& running = source.beams.running()[static_cast<std::size_t>(beam)];
    reader_.row(logits_row, raw_);
    for (float& value : raw_) value -= reader_.log_sum_exp(logits_row);
    std::copy(raw_.begin(), raw_.end(), scores_.begin());
    history_ = source.forced;
    history_.insert(history_.end(), running.tokens.begin(), running.tokens.end());
    processors_.apply(history_, steps_, scores_);
    if (!options_.do_sample) {
        kept_.clear();
        for (std::size_t id = 0; id < scores_.size(); ++id)
            kept_.push_back({scores_[id], static_cast<std::int32_t>(id)});
        keep_largest(kept_, candidates_);
    } else {
        // One token more than can end, so that something goes on.
        warp(scores_, options_, static_cast<std::int64_t>(end_tokens_) + 1, kept_);
    }
    for (const Candidate& candidate : kept_) {
        const float score = candidate.score + running.score;
        float rank = score;
        if (options_.do_sample) {
            // Drawing without replacement is taking the largest of score + Gumbel noise (arXiv 1903.06059).
            const auto index =
                static_cast<std::uint32_t>(beam * static_cast<std::int64_t>(raw_.size()) + candidate.token);
            const double uniform = source.random.uniform(static_cast<std::uint32_t>(steps_), index);
            rank = static_cast<float>(score - std::log(-std::log(uniform)));
        }
        ranked_.push_back(
            {{score, static_cast<std::int32_t>(beam), candidate.token, raw_[static_cast<std::size_t>(candidate.token)]},
             rank});
    }
}

void BeamSearch::select() {
    const auto count = std::min(ranked_.size(), static_cast<std::size_t>(candidates_));
    std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(count), ranked_.end(),
                      [](const Ranked& left, const Ranked& right) {
                          if (left.rank != right.rank) return left.rank > right.rank;
                          const Continuation &a = left.continuation, &b = right.continuation;
                          return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
                      });
    continuations_.clear();
    for (std::size_t i = 0; i < count; ++i) continuations_.push_back(ranked_[i].continuation);
}

void BeamSearch::update(std::int64_t index) {
    Source& source = sources_[static_cast<std::size_t>(index)];
    source.updated = source.beams;
    source.updated->update(continuations_);
    std::vector<std::vector<std::int32_t>> slots;
    for (const auto& running : source.updated->running()) {
        slots.push_back(source.slots_of_positions[static_cast<std::size_t>(running.parent)]);
    }
    source.slots_of_positions = std::move(slots);
}

void BeamSearch::take_updated() {
    for (const std::int64_t index : active_) {
        Source& source = sources_[static_cast<std::size_t>(index)];
        source.beams = std::move(source.updated).value();
        source.updated.reset();
    }
}

std::vector<std::vector<Hypothesis>> BeamSearch::results() const {
    std::vector<std::vector<Hypothesis>> answers;
    for (const Source& source : sources_) answers.push_back(source.beams.results());
    return answers;
}

}  // namespace lrengine
