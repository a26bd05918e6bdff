// The host's view of a step's logits: the likeliest tokens of every row, and whole rows when they are asked for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "ops/backend.h"

namespace lrengine {

class LogitsReader {
public:
    // Room for `rows` rows of `vocab` logits and the `k` likeliest tokens of each.
    LogitsReader(Backend& backend, std::int64_t rows, std::int64_t vocab, std::int64_t k);

    // Takes logits [M, V], M <= rows. Throws Error(kModelFile) when a row holds NaN or +inf, which weights of a
    // float32 model overflowing give. `logits` must live as long as row() is called.
    void read(const Matrix& logits);

    std::span<const float> values(std::int64_t row) const;  // falling order; ties: the smaller id first
    std::span<const std::int32_t> ids(std::int64_t row) const;
    float log_sum_exp(std::int64_t row) const { return log_sum_exp_[static_cast<std::size_t>(row)]; }

    // Copies row [V] to `destination`.
    void row(std::int64_t row, std::span<float> destination) const;

    std::size_t scratch_bytes() const { return arena_.reserved_bytes(); }

private:
    Backend& backend_;
    Arena arena_;
    std::int64_t k_;
    Matrix logits_;
    Matrix device_values_;
    std::int32_t* device_ids_;
    float* device_log_sum_exp_;
    std::vector<float> values_;
    std::vector<std::int32_t> ids_;
    std::vector<float> log_sum_exp_;
};

}  // namespace lrengine
