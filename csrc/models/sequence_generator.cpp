#include "models/sequence_generator.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/finite.h"
#include "models/generation_state.h"
#include "models/request.h"

namespace lrengine {

namespace {

// Logits kept at a time while scoring: 64 MiB of float32.
constexpr std::int64_t kLogitsPerPass = std::int64_t{1} << 24;

// A sequence to score: what is fed, and which of its rows predict the targets.
struct ScoredSequence {
    std::size_t index;
    GenerationSource source;
    TokenSpan target;
    std::vector<std::int32_t> tokens;  // forced and all but the last target
    std::int64_t rows;

    // First row, within the sequence, that predicts a target.
    std::int64_t first_predictor() const { return rows - static_cast<std::int64_t>(target.size()); }
};

std::vector<ScoredSequence> sequences_to_score(std::span<const GenerationSource> sources,
                                               std::span<const TokenSpan> targets, const SequenceDecoder& decoder) {
    std::vector<ScoredSequence> scored;
    for (std::size_t i = 0; i < sources.size(); ++i) {
        if (targets[i].empty()) continue;
        ScoredSequence sequence{i, sources[i], targets[i], {}, 0};
        sequence.tokens.assign(sources[i].forced.begin(), sources[i].forced.end());
        sequence.tokens.insert(sequence.tokens.end(), targets[i].begin(), targets[i].end() - 1);
        sequence.rows = decoder.prefix_length(sources[i].source, sources[i].prompt) +
                        static_cast<std::int64_t>(sequence.tokens.size());
        scored.push_back(std::move(sequence));
    }
    return scored;
}

// States of all rows of the sequences, packed as `rows`.
Matrix run_sequences(const Workspace& work, std::span<const ScoredSequence> sequences, const PackedRows& rows,
                     const SequenceDecoder& decoder) {
    const DecoderTraits& traits = decoder.traits();
    const Matrix hidden = work.residual(rows.rows(), traits.hidden);
    const ArenaScope scope(work.arena);
    std::vector<FedSequence> fed;
    std::int64_t source_rows = 0;
    for (const ScoredSequence& sequence : sequences) {
        fed.push_back({sequence.source.source, sequence.source.prompt, sequence.tokens});
        source_rows += static_cast<std::int64_t>(sequence.source.source.size());
    }
    KvCache cross;
    if (traits.cross_attention) cross = KvCache(work, traits.layers, source_rows, traits.key_width);
    decoder.feed(work, fed, rows, nullptr, {}, cross, hidden);
    return hidden;
}

// log p(ids[m]) from the states of rows[m], a few rows of logits at a time.
std::vector<float> predict(const Workspace& work, const Matrix& hidden, std::span<const std::int32_t> rows,
                           std::span<const std::int32_t> ids, const SequenceDecoder& decoder) {
    std::vector<float> result(rows.size());
    const std::int64_t fit = std::max<std::int64_t>(1, kLogitsPerPass / decoder.traits().vocab);
    for (std::size_t first = 0; first < rows.size(); first += static_cast<std::size_t>(fit)) {
        work.check_interruption();
        const ArenaScope scope(work.arena);
        const std::size_t count = std::min(rows.size() - first, static_cast<std::size_t>(fit));
        const Matrix states = work.residual(static_cast<std::int64_t>(count), hidden.cols);
        work.backend.gather_rows({.source = hidden, .out = states, .rows = work.upload(rows.subspan(first, count))});
        auto* log_probs = work.arena.array<float>(static_cast<std::int64_t>(count));
        work.backend.token_log_prob({.logits = decoder.logits(work, states),
                                     .ids = work.upload(ids.subspan(first, count)),
                                     .log_probs = log_probs});
        work.backend.copy_to_host(result.data() + first, log_probs, count * sizeof(float));
    }
    require_finite(result, "logits");
    return result;
}

void score_sequences(const Workspace& work, std::span<const ScoredSequence> sequences, const SequenceDecoder& decoder,
                     std::vector<std::vector<float>>& scores) {
    const ArenaScope scope(work.arena);
    std::vector<std::int64_t> lengths;
    for (const ScoredSequence& sequence : sequences) lengths.push_back(sequence.rows);
    const PackedRows rows(work, lengths);
    const Matrix hidden = run_sequences(work, sequences, rows, decoder);

    std::vector<std::int32_t> predictors, ids;
    for (std::size_t b = 0; b < sequences.size(); ++b) {
        const std::int64_t first = rows.begin(static_cast<std::int64_t>(b)) + sequences[b].first_predictor();
        for (std::size_t t = 0; t < sequences[b].target.size(); ++t) {
            predictors.push_back(static_cast<std::int32_t>(first + static_cast<std::int64_t>(t)));
            ids.push_back(sequences[b].target[t]);
        }
    }
    const std::vector<float> log_probs = predict(work, hidden, predictors, ids, decoder);
    auto next = log_probs.begin();
    for (const ScoredSequence& sequence : sequences) {
        const auto end = next + static_cast<std::ptrdiff_t>(sequence.target.size());
        scores[sequence.index].assign(next, end);
        next = end;
    }
}

}  // namespace

std::unique_ptr<DecodeState> SequenceGenerator::begin(std::span<const GenerationSource> sources,
                                                      std::int64_t rows_per_source, std::int64_t max_new_tokens) const {
    if (sources.empty()) fail(ErrorCode::kInvalidArgument, "no sources to generate from");
    if (rows_per_source < 1) fail(ErrorCode::kInvalidArgument, "rows per source must be at least 1");
    if (max_new_tokens < 0 || max_new_tokens > std::numeric_limits<std::int32_t>::max()) {
        fail(ErrorCode::kInvalidArgument,
             "the number of new tokens must be 0 to 2147483647, found " + std::to_string(max_new_tokens));
    }
    check_generation(sources, decoder_);
    return std::make_unique<GenerationState>(decoder_, session_backend(backend_), sources, rows_per_source,
                                             max_new_tokens);
}

void SequenceGenerator::check(std::span<const GenerationSource> sources, std::span<const TokenSpan> targets) const {
    check_targets(sources, targets, decoder_);
}

std::vector<std::vector<float>> SequenceGenerator::score(std::span<const GenerationSource> sources,
                                                         std::span<const TokenSpan> targets,
                                                         const Interruption& interruption) const {
    check(sources, targets);
    const std::shared_ptr<Backend> backend = session_backend(backend_);
    Arena arena(*backend);
    const Workspace work(*backend, arena, &interruption);
    std::vector<std::vector<float>> scores(sources.size());
    const std::vector<ScoredSequence> sequences = sequences_to_score(sources, targets, decoder_);
    std::vector<std::int64_t> costs;
    for (const ScoredSequence& sequence : sequences) {
        costs.push_back(sequence.rows + static_cast<std::int64_t>(sequence.source.source.size()));
    }
    for (const SequenceRange range : split_batch(costs)) {
        score_sequences(work, std::span(sequences).subspan(range.first, range.count), decoder_, scores);
    }
    return scores;
}

}  // namespace lrengine
