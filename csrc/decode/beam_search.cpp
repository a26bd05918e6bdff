#include "decode/beam_search.h"

#include <algorithm>
#include <cmath>

namespace lrengine {

BeamSearch::BeamSearch(const Generator& generator, const SearchRequest& request)
    : options_(request.options),
      end_tokens_(request.end_tokens.size()),
      candidates_(BeamHypotheses::candidates(options_, end_tokens_)),
      state_(generator.begin(request.sources, options_.num_beams, options_.max_new_tokens)),
      processors_(options_, request.end_tokens),
      reader_(*state_, static_cast<std::int64_t>(request.sources.size()) * options_.num_beams, generator.vocab_size(),
              candidates_, options_.do_sample || processors_.active()) {
    const auto streams = source_streams(request.sources);
    const auto limits = token_limits(generator, *state_, request.sources.size(), options_.max_new_tokens);
    for (std::size_t index = 0; index < request.sources.size(); ++index) {
        const auto forced = request.sources[index].forced;
        sources_.push_back({BeamHypotheses(options_, limits[index], request.end_tokens, request.stop,
                                           static_cast<std::int64_t>(index)),
                            RandomStream(options_.seed.value_or(0), streams[index]),
                            {forced.begin(), forced.end()},
                            {}});
        active_.push_back(static_cast<std::int64_t>(index));
    }
    if (options_.do_sample || processors_.active()) {
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
        state_->prefill();
        batch_.emplace(static_cast<std::int64_t>(sources_.size()) * options_.num_beams, state_->capacity(), true);
        prepare_histories();
        return static_cast<std::int64_t>(sources_.size());
    }
    batch_->clear();
    for (const std::int64_t index : active_) {
        Source& source = sources_[static_cast<std::size_t>(index)];
        const std::int64_t length = state_->prefill_length(index) + steps_ - 1;
        std::int64_t slot = index * options_.num_beams;
        for (std::size_t beam = 0; beam < source.beams.running().size(); ++beam, ++slot) {
            // A position of a slot is written once, so what other beams' histories name stays what it was.
            auto& slots = source.slots_of_positions[beam];
            slots[static_cast<std::size_t>(length)] = static_cast<std::int32_t>(slot);
            batch_->add(source.beams.running()[beam].tokens.back(), slot, index, length, slots);
        }
    }
    state_->step(batch_->input());
    return batch_->rows();
}

void BeamSearch::advance() {
    const bool first = !batch_.has_value();
    reader_.read(forward());
    std::int64_t row = 0;
    for (const std::int64_t index : active_) {
        ranked_.clear();
        for (std::int64_t beam = 0; beam < options_.num_beams; ++beam) collect(index, beam, first ? index : row++);
        update(index);
    }
    ++steps_;
    std::erase_if(active_,
                  [this](std::int64_t index) { return sources_[static_cast<std::size_t>(index)].beams.done(); });
}

// The K best of one beam are enough: the K best of all are among them.
void BeamSearch::collect(std::int64_t source, std::int64_t beam, std::int64_t logits_row) {
    if (!raw_.empty()) {
        collect_processed(source, beam, logits_row);
        return;
    }
    const float score =
        sources_[static_cast<std::size_t>(source)].beams.running()[static_cast<std::size_t>(beam)].score;
    const auto values = reader_.values(logits_row);
    const auto ids = reader_.ids(logits_row);
    for (std::size_t i = 0; i < values.size(); ++i) {
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

void BeamSearch::update(std::int64_t index) {
    const auto count = std::min(ranked_.size(), static_cast<std::size_t>(candidates_));
    std::partial_sort(ranked_.begin(), ranked_.begin() + static_cast<std::ptrdiff_t>(count), ranked_.end(),
                      [](const Ranked& left, const Ranked& right) {
                          if (left.rank != right.rank) return left.rank > right.rank;
                          const Continuation &a = left.continuation, &b = right.continuation;
                          return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
                      });
    continuations_.clear();
    for (std::size_t i = 0; i < count; ++i) continuations_.push_back(ranked_[i].continuation);
    Source& source = sources_[static_cast<std::size_t>(index)];
    source.beams.update(continuations_);
    std::vector<std::vector<std::int32_t>> slots;
    for (const auto& running : source.beams.running()) {
        slots.push_back(source.slots_of_positions[static_cast<std::size_t>(running.parent)]);
    }
    source.slots_of_positions = std::move(slots);
}

std::vector<std::vector<Hypothesis>> BeamSearch::results() const {
    std::vector<std::vector<Hypothesis>> answers;
    for (const Source& source : sources_) answers.push_back(source.beams.results());
    return answers;
}

}  // namespace lrengine
