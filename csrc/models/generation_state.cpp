#include "models/generation_state.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>
#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

// Cache rows are counted in int32 on every device.
std::int64_t checked_rows(std::int64_t slots, std::int64_t capacity) {
    std::int64_t rows = 0;
    if (__builtin_mul_overflow(slots, capacity, &rows) || rows > std::numeric_limits<std::int32_t>::max()) {
        fail(ErrorCode::kInvalidArgument, "a batch of " + std::to_string(slots) + " rows of " +
                                              std::to_string(capacity) + " positions is too large");
    }
    return rows;
}

// Work is shaped for lengths of up to 64, 128, 256, ... keys: few recordings, and early steps do not pay for late ones.
std::int64_t length_bucket(std::int64_t length) {
    constexpr std::uint64_t kLeast = 64;
    return static_cast<std::int64_t>(std::bit_ceil(std::max(static_cast<std::uint64_t>(length), kLeast)));
}

// Sizes of caches, a quarter more at most or 16: requests of about the same size then find each other's memory, and
// with it the steps that were recorded.
std::int64_t roomy(std::int64_t size) {
    constexpr std::uint64_t kStep = 16;
    const std::uint64_t step = std::max(std::bit_floor(static_cast<std::uint64_t>(size)) / 4, kStep);
    return static_cast<std::int64_t>((static_cast<std::uint64_t>(size) + step - 1) / step * step);
}

std::uint64_t next_identity() {
    static std::atomic<std::uint64_t> count = 0;
    return ++count;
}

std::vector<std::int32_t> copy(TokenSpan tokens) { return {tokens.begin(), tokens.end()}; }

}  // namespace

GenerationState::GenerationState(const SequenceDecoder& decoder, std::shared_ptr<Backend> backend,
                                 std::span<const GenerationSource> sources, std::int64_t rows_per_source,
                                 std::int64_t max_new_tokens)
    : identity_(next_identity()),
      decoder_(decoder),
      backend_(std::move(backend)),
      arena_(*backend_),
      rows_per_source_(rows_per_source),
      capacity_(0),
      scratch_(),
      pass_(cache_, cross_),
      step_begin_() {
    const DecoderTraits& traits = decoder.traits();
    if (traits.cross_attention) source_offsets_.push_back(0);
    for (const GenerationSource& source : sources) {
        tokens_.push_back({copy(source.source), copy(source.prompt), copy(source.forced)});
        lengths_.push_back(decoder.prefix_length(source.source, source.prompt) +
                           static_cast<std::int64_t>(source.forced.size()));
        capacity_ = std::max(capacity_, lengths_.back() + max_new_tokens);
        if (traits.cross_attention) {
            const std::int64_t end =
                checked_rows(1, source_offsets_.back() + static_cast<std::int64_t>(source.source.size()));
            source_offsets_.push_back(static_cast<std::int32_t>(end));
            longest_source_ = std::max(longest_source_, length_bucket(std::ssize(source.source)));
        }
    }
    capacity_ = roomy(capacity_);
    if (traits.longest_row() > 0) capacity_ = std::min(capacity_, traits.longest_row());
    const auto count = static_cast<std::int64_t>(sources.size());
    const std::int64_t slots = checked_rows(count, rows_per_source);
    cache_ = KvCache(work(), traits.layers, checked_rows(slots, capacity_), traits.key_width);
    if (traits.cross_attention)
        cross_ = KvCache(work(), traits.layers, roomy(source_offsets_.back()), traits.key_width);
    scratch_ = arena_.mark();
}

void GenerationState::prefill(const Interruption& interruption) {
    arena_.reset_to(scratch_);
    const Workspace work(*backend_, arena_, &interruption);
    std::vector<std::int64_t> costs;
    for (std::size_t b = 0; b < tokens_.size(); ++b) {
        costs.push_back(lengths_[b] + static_cast<std::int64_t>(tokens_[b].source.size()));
    }
    rows_ = {work.residual(static_cast<std::int64_t>(tokens_.size()), decoder_.traits().hidden), std::nullopt};
    for (const SequenceRange range : split_batch(costs)) {
        feed(work, range,
             rows_.hidden.slice(static_cast<std::int64_t>(range.first), static_cast<std::int64_t>(range.count)));
    }
    select_from(rows_);
}

void GenerationState::feed(const Workspace& work, SequenceRange range, const Matrix& last) {
    const ArenaScope scope(arena_);
    std::vector<FedSequence> sequences;
    std::vector<std::int64_t> cache_begin;
    for (std::size_t b = range.first; b < range.first + range.count; ++b) {
        sequences.push_back({tokens_[b].source, tokens_[b].prompt, tokens_[b].forced});
        cache_begin.push_back(static_cast<std::int64_t>(b) * rows_per_source_ * capacity_);
    }
    const PackedRows rows(work, std::span(lengths_).subspan(range.first, range.count));
    const Matrix hidden = work.residual(rows.rows(), decoder_.traits().hidden);
    KvCache cross;
    if (!source_offsets_.empty()) {
        const std::int64_t begin = source_offsets_[range.first];
        cross = cross_.slice(begin, source_offsets_[range.first + range.count] - begin);
    }
    decoder_.feed(work, sequences, rows, &cache_, cache_begin, cross, hidden);

    std::vector<std::int32_t> last_rows;
    for (std::size_t b = 0; b < range.count; ++b) {
        last_rows.push_back(static_cast<std::int32_t>(rows.begin(static_cast<std::int64_t>(b) + 1) - 1));
    }
    backend_->gather_rows({.source = hidden, .out = last, .rows = work.upload(last_rows)});
}

void GenerationState::step(const StepInput& input) {
    arena_.reset_to(scratch_);
    pass_.prepare(work(), input, capacity_, source_offsets_);
    const auto rows = static_cast<std::int64_t>(input.tokens.size());
    const std::int32_t longest = input.lengths.empty() ? 0 : *std::ranges::max_element(input.lengths);
    // What is repeated leaves its results where `ops` left them when this state ran them: no other state's will do.
    std::vector<std::uint64_t> signature = plan_step(rows, longest + 1);
    signature.push_back(identity_);
    Repeated& repeated = repeated_[signature];
    backend_->repeat(signature, [&] {
        repeated.rows = {decoder_.advance(work(), pass_, rows), std::nullopt};
        select_from(repeated.rows);
        repeated.end = arena_.mark();
    });
    rows_ = repeated.rows;
    arena_.reset_to(repeated.end);
}

StepRows GenerationState::start_ahead(const StepInput& input, std::int64_t generated) {
    arena_.reset_to(scratch_);
    const StepRows rows = pass_.prepare(work(), input, capacity_, source_offsets_, generated);
    step_begin_ = arena_.mark();
    ahead_rows_ = rows.rows;
    return rows;
}

void GenerationState::step_ahead(std::int64_t longest, const Take& take) {
    arena_.reset_to(step_begin_);
    std::vector<std::uint64_t> signature = plan_step(ahead_rows_, longest);
    signature.insert(signature.end(), take.signature.begin(), take.signature.end());
    backend_->repeat(signature, [&] {
        rows_ = {decoder_.advance(work(), pass_, ahead_rows_), std::nullopt};
        select_from(rows_);
        take.ops();
    });
}

std::vector<std::uint64_t> GenerationState::plan_step(std::int64_t rows, std::int64_t longest) {
    const std::int64_t bucket = std::min(length_bucket(longest), capacity_);
    pass_.set_longest(bucket, longest_source_);
    std::vector<std::uint64_t> words{decoder_.identity(), static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(bucket), static_cast<std::uint64_t>(longest_source_),
                                     static_cast<std::uint64_t>(capacity_)};
    // The arena gives the same requests the same memory.
    arena_.describe(words);
    cache_.describe(words);
    cross_.describe(words);
    pass_.describe(words);
    if (selection_) {
        words.push_back(selection_->whole_rows ? 1 : 0);
        words.push_back(static_cast<std::uint64_t>(selection_->k));
        words.push_back(reinterpret_cast<std::uintptr_t>(selection_->values.data));
        words.push_back(reinterpret_cast<std::uintptr_t>(selection_->ids));
        words.push_back(reinterpret_cast<std::uintptr_t>(selection_->log_sum_exp));
    }
    return words;
}

void GenerationState::select_from(Rows& rows) {
    if (!selection_) return;
    const TopTokens& out = *selection_;
    Matrix values = out.values;
    values.rows = rows.hidden.rows;
    if (out.whole_rows || !backend_->projects_top_k()) {
        rows.logits = decoder_.logits(work(), rows.hidden);
        backend_->top_k(
            {.logits = *rows.logits, .k = out.k, .values = values, .ids = out.ids, .log_sum_exp = out.log_sum_exp});
        return;
    }
    const ArenaScope scope(arena_);
    const Projection projected = decoder_.projection(work(), rows.hidden);
    backend_->project_top_k({.x = projected.x,
                             .weight = projected.output.weight,
                             .bias = projected.output.bias,
                             .k = out.k,
                             .values = values,
                             .ids = out.ids,
                             .log_sum_exp = out.log_sum_exp});
}

Matrix GenerationState::logits() {
    if (!rows_.logits) rows_.logits = decoder_.logits(work(), rows_.hidden);
    return *rows_.logits;
}

}  // namespace lrengine
