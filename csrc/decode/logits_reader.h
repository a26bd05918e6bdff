// The host's view of a step's logits: the likeliest tokens of every row, and whole rows when they are asked for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "decode/logits_processors.h"
#include "models/generator.h"
#include "ops/backend.h"

namespace lrengine {

// Whether the `wanted` best tokens under these processors can be read off a list of the likeliest ones, without whole
// rows of logits.
bool chosen_from_lists(const LogitsProcessors& processors, std::int64_t wanted, std::int64_t vocab);

class LogitsReader {
public:
    // Room for the `k` likeliest tokens, of `vocab`, of each of `rows` rows of `state`. whole_rows: row() will be
    // called.
    LogitsReader(DecodeState& state, std::int64_t rows, std::int64_t vocab, std::int64_t k, bool whole_rows);

    // Where the state's steps put the candidates of `rows` rows.
    TopTokens selection(std::int64_t rows) const;

    // Takes what the state's last call, of `count` rows, selected. Throws Error(kModelFile) when a row holds NaN or
    // +inf, which weights of a float32 model overflowing give.
    void read(std::int64_t count);

    std::span<const float> values(std::int64_t row) const;  // falling order; ties: the smaller id first
    std::span<const std::int32_t> ids(std::int64_t row) const;
    float log_sum_exp(std::int64_t row) const { return host_[static_cast<std::size_t>(row)]; }

    // Copies row [V] to `destination`; until the state's next step.
    void row(std::int64_t row, std::span<float> destination) const;

    std::size_t scratch_bytes() const { return arena_.reserved_bytes(); }

private:
    DecodeState& state_;
    Arena arena_;
    std::int64_t rows_, k_;
    bool whole_rows_;
    float* device_;            // log-sum-exp [R], then values [R, k] and ids [R, k]: one copy brings all
    std::vector<float> host_;  // the same
    std::vector<std::int32_t> ids_;
    Matrix logits_;
};

}  // namespace lrengine
