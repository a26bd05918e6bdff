#include "decode/logits_reader.h"

#include <algorithm>

#include "core/finite.h"

namespace lrengine {

LogitsReader::LogitsReader(Backend& backend, std::int64_t rows, std::int64_t vocab, std::int64_t k)
    : backend_(backend),
      arena_(backend),
      k_(std::min(k, vocab)),
      device_values_(arena_.matrix(rows, k_, DType::kFloat32)),
      device_ids_(arena_.array<std::int32_t>(rows * k_)),
      device_log_sum_exp_(arena_.array<float>(rows)),
      values_(static_cast<std::size_t>(rows * k_)),
      ids_(static_cast<std::size_t>(rows * k_)),
      log_sum_exp_(static_cast<std::size_t>(rows)) {}

void LogitsReader::read(const Matrix& logits) {
    logits_ = logits;
    const Matrix values{device_values_.data, DType::kFloat32, logits.rows, k_, k_};
    backend_.top_k(
        {.logits = logits, .k = k_, .values = values, .ids = device_ids_, .log_sum_exp = device_log_sum_exp_});
    const auto rows = static_cast<std::size_t>(logits.rows);
    const auto selected = rows * static_cast<std::size_t>(k_);
    backend_.copy_to_host(values_.data(), values.data, selected * sizeof(float));
    backend_.copy_to_host(ids_.data(), device_ids_, selected * sizeof(std::int32_t));
    backend_.copy_to_host(log_sum_exp_.data(), device_log_sum_exp_, rows * sizeof(float));
    require_finite(std::span(log_sum_exp_).first(rows), "logits");
}

std::span<const float> LogitsReader::values(std::int64_t row) const {
    return std::span(values_).subspan(static_cast<std::size_t>(row * k_), static_cast<std::size_t>(k_));
}

std::span<const std::int32_t> LogitsReader::ids(std::int64_t row) const {
    return std::span(ids_).subspan(static_cast<std::size_t>(row * k_), static_cast<std::size_t>(k_));
}

void LogitsReader::row(std::int64_t row, std::span<float> destination) const {
    backend_.copy_to_host(destination.data(), logits_.row<float>(row), destination.size_bytes());
}

}  // namespace lrengine
