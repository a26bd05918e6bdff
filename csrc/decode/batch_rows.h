// The arrays of a StepInput, rebuilt every step from the rows that still run.
#pragma once

#include <cstdint>
#include <vector>

#include "models/generator.h"

namespace lrengine {

class BatchRows {
public:
    // `history`: whether rows read positions written by other slots.
    BatchRows(std::int64_t max_rows, std::int64_t capacity, bool history);

    void clear();
    // `slots_of_positions` [capacity]: the row's history, up to and including `length`; ignored without history.
    void add(std::int32_t token, std::int64_t slot, std::int64_t source, std::int64_t length,
             const std::vector<std::int32_t>& slots_of_positions);

    StepInput input() const;
    std::int64_t rows() const { return static_cast<std::int64_t>(tokens_.size()); }

private:
    bool with_history_;
    std::vector<std::int32_t> tokens_, slots_, sources_, lengths_, history_;
};

}  // namespace lrengine
