#include "decode/steps_ahead.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "ops/backend.h"

namespace lrengine {

void StepsAhead::start(const StepInput& input, std::int64_t generated, std::int64_t steps, std::int64_t record_bytes,
                       const MakeTake& make) {
    running_ = false;
    Backend& backend = state_.backend();
    records_ = static_cast<char*>(backend.mailbox(static_cast<std::size_t>(kStepRing * record_bytes)));
    arena_.reset_to({});
    const StepRows rows = state_.start_ahead(input, generated);
    take_ = make({backend, arena_}, rows, records_);
    capacity_ = rows.capacity;
    record_bytes_ = record_bytes;
    generated_ = generated;
    longest_ = 1 + *std::ranges::max_element(input.lengths);
    unread_ = 0;
    left_ = steps;
    running_ = true;
}

void StepsAhead::launch() {
    state_.step_ahead(std::min(longest_, capacity_), take_);
    state_.backend().mark((generated_ + unread_) % kStepRing);
    ++unread_;
    ++longest_;
    --left_;
}

// A record's place is used again by the step kStepRing later, which is launched here: after the caller, who asks for
// the next, has read it.
const void* StepsAhead::next() {
    while (unread_ < kStepRing && left_ > 0) launch();
    if (unread_ == 0) fail(ErrorCode::kInternal, "more steps are read than were to run");
    const std::int64_t place = generated_ % kStepRing;
    state_.backend().await(place);
    ++generated_;
    --unread_;
    return records_ + place * record_bytes_;
}

BannedTokens StepsAhead::upload(const LogitsProcessors& processors, const Workspace& work) {
    const auto suppressed = processors.suppressed(), ends = processors.end_tokens();
    return {.suppressed = work.upload(suppressed),
            .ends = work.upload(ends),
            .suppressed_count = static_cast<std::int32_t>(suppressed.size()),
            .end_count = static_cast<std::int32_t>(ends.size()),
            .min_new_tokens = static_cast<std::int32_t>(processors.min_new_tokens())};
}

namespace {

TokenHistory upload_histories(const Workspace& work, std::span<const std::vector<std::int32_t>> histories,
                              std::int64_t steps) {
    std::size_t longest = 0;
    for (const auto& history : histories) longest = std::max(longest, history.size());
    // Rounded up, so that requests of about the same lengths find each other's recordings.
    const std::size_t stride = std::bit_ceil(longest + static_cast<std::size_t>(steps) + 1);
    std::vector<std::int32_t> table(histories.size() * stride), lengths;
    for (std::size_t row = 0; row < histories.size(); ++row) {
        std::ranges::copy(histories[row], table.begin() + static_cast<std::ptrdiff_t>(row * stride));
        lengths.push_back(static_cast<std::int32_t>(histories[row].size()));
    }
    return {.tokens = work.upload(table), .lengths = work.upload(lengths), .stride = static_cast<std::int64_t>(stride)};
}

}  // namespace

ProcessScoresArgs StepsAhead::upload(const LogitsProcessors& processors, const Workspace& work, const StepRows& rows,
                                     std::int64_t vocab, std::span<const std::vector<std::int32_t>> histories,
                                     std::int64_t steps) {
    ProcessScoresArgs args{.logits = {},
                           .scores = work.floats(rows.rows, vocab),
                           .history = {},
                           .generated = rows.generated,
                           .repetition_penalty = static_cast<float>(processors.repetition_penalty()),
                           .no_repeat_ngram = static_cast<std::int32_t>(std::min<std::int64_t>(
                               processors.ngram_size(), std::numeric_limits<std::int32_t>::max())),
                           .banned = upload(processors, work)};
    if (!processors.only_bans()) args.history = upload_histories(work, histories, steps);
    return args;
}

void describe(std::vector<std::uint64_t>& words, const BannedTokens& banned) {
    describe(words, banned.suppressed, banned.ends, banned.suppressed_count, banned.end_count, banned.min_new_tokens);
}

void describe(std::vector<std::uint64_t>& words, const ProcessScoresArgs& args) {
    describe(words, args.banned);
    describe(words, args.history.tokens, args.history.lengths, args.history.stride);
    describe(words, args.scores.data, args.offsets, args.repetition_penalty, args.no_repeat_ngram);
}

bool worth_shrinking(std::size_t rows, std::size_t active) { return std::bit_ceil(active) < std::bit_ceil(rows); }

}  // namespace lrengine
