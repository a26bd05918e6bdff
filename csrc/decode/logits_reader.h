// The host's view of a step's logits: the likeliest tokens of every row, and whole rows when they are asked for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "models/generator.h"
#include "ops/backend.h"

namespace lrengine {

class LogitsReader {
public:
    // Room for the `k` likeliest tokens, of `vocab`, of each of `rows` rows of `state`. whole_rows: row() will be
    // called.
    LogitsReader(DecodeState& state, std::int64_t rows, std::int64_t vocab, std::int64_t k, bool whole_rows);

    // Takes what follows the state's M <= rows rows. Throws Error(kModelFile) when a row holds NaN or +inf, which
    // weights of a float32 model overflowing give.
    void read(std::int64_t rows);

    std::span<const float> values(std::int64_t row) const;  // falling order; ties: the smaller id first
    std::span<const std::int32_t> ids(std::int64_t row) const;
    float log_sum_exp(std::int64_t row) const { return host_[static_cast<std::size_t>(row)]; }

    // Copies row [V] to `destination`; until the state's next step.
    void row(std::int64_t row, std::span<float> destination) const;

    std::size_t scratch_bytes() const { return arena_.reserved_bytes(); }

private:
    // On the device and on the host: log-sum-exp of R rows, then values and ids [R, k], for one copy.
    static std::size_t words(std::int64_t rows, std::int64_t k) { return static_cast<std::size_t>(rows * (1 + 2 * k)); }

    DecodeState& state_;
    Arena arena_;
    std::int64_t k_;
    bool whole_rows_;
    float* device_;
    std::vector<float> host_;
    std::int64_t rows_ = 0;
    Matrix logits_;
    std::vector<std::int32_t> ids_;
};

}  // namespace lrengine
