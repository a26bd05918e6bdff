#include "decode/batch_rows.h"

namespace lrengine {

BatchRows::BatchRows(std::int64_t max_rows, std::int64_t capacity, bool history) : with_history_(history) {
    const auto rows = static_cast<std::size_t>(max_rows);
    for (auto* field : {&tokens_, &slots_, &sources_, &lengths_}) field->reserve(rows);
    if (history) history_.reserve(rows * static_cast<std::size_t>(capacity));
}

void BatchRows::clear() {
    for (auto* field : {&tokens_, &slots_, &sources_, &lengths_, &history_}) field->clear();
}

void BatchRows::add(std::int32_t token, std::int64_t slot, std::int64_t source, std::int64_t length,
                    const std::vector<std::int32_t>& slots_of_positions) {
    tokens_.push_back(token);
    slots_.push_back(static_cast<std::int32_t>(slot));
    sources_.push_back(static_cast<std::int32_t>(source));
    lengths_.push_back(static_cast<std::int32_t>(length));
    if (with_history_) history_.insert(history_.end(), slots_of_positions.begin(), slots_of_positions.end());
}

StepInput BatchRows::input() const {
    return {.tokens = tokens_, .slots = slots_, .sources = sources_, .lengths = lengths_, .history = history_};
}

}  // namespace lrengine
