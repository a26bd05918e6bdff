#include "decode/logits_reader.h"

#include <algorithm>
#include <cstring>

#include "core/finite.h"

namespace lrengine {

bool chosen_from_lists(const LogitsProcessors& processors, std::int64_t wanted, std::int64_t vocab) {
    constexpr std::int64_t kMostBanned = 64;  // more: a list of that many costs more than the row
    const std::int64_t banned = processors.most_banned();
    return processors.only_bans() && banned <= kMostBanned && wanted + banned <= vocab;
}

LogitsReader::LogitsReader(DecodeState& state, std::int64_t rows, std::int64_t vocab, std::int64_t k, bool whole_rows)
    : state_(state),
      arena_(state.backend()),
      rows_(rows),
      k_(std::min(k, vocab)),
      whole_rows_(whole_rows),
      device_(arena_.array<float>(rows * (1 + 2 * k_))),
      host_(static_cast<std::size_t>(rows * (1 + 2 * k_))),
      ids_(static_cast<std::size_t>(rows * k_)) {
    state.select(selection(rows));
}

TopTokens LogitsReader::selection(std::int64_t rows) const {
    float* values = device_ + rows_;
    return {.whole_rows = whole_rows_,
            .k = k_,
            .values = {values, DType::kFloat32, rows, k_, k_},
            .ids = reinterpret_cast<std::int32_t*>(values + rows_ * k_),
            .log_sum_exp = device_};
}

void LogitsReader::read(std::int64_t count) {
    state_.backend().copy_to_host(host_.data(), device_, host_.size() * sizeof(float));
    std::memcpy(ids_.data(), host_.data() + rows_ * (1 + k_), ids_.size() * sizeof(std::int32_t));
    require_finite(std::span(host_).first(static_cast<std::size_t>(count)), "logits");
    if (whole_rows_) logits_ = state_.logits();
}

std::span<const float> LogitsReader::values(std::int64_t row) const {
    return std::span(host_).subspan(static_cast<std::size_t>(rows_ + row * k_), static_cast<std::size_t>(k_));
}

std::span<const std::int32_t> LogitsReader::ids(std::int64_t row) const {
    return std::span(ids_).subspan(static_cast<std::size_t>(row * k_), static_cast<std::size_t>(k_));
}

void LogitsReader::row(std::int64_t row, std::span<float> destination) const {
    state_.backend().copy_to_host(destination.data(), logits_.row<float>(row), destination.size_bytes());
}

}  // namespace lrengine
