// Sequences laid one after the other without padding, and batches cut into pieces that bound the scratch memory.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "models/workspace.h"

namespace lrengine {

using TokenSpan = std::span<const std::int32_t>;

// Rows that one forward pass over whole sequences takes at most (a longer sequence goes alone): products are
// compute-bound well below this, and a pass needs a few hundred bytes to tens of kilobytes of scratch a row.
inline constexpr std::int64_t kRowsPerPass = 2048;

// Row offsets of packed sequences, on the host and on the device.
class PackedRows {
public:
    // The device copy lives in the arena's current scope.
    PackedRows(const Workspace& work, std::span<const std::int64_t> lengths);
    PackedRows(PackedRows&&) = default;
    PackedRows(const PackedRows&) = delete;
    PackedRows& operator=(const PackedRows&) = delete;

    const Packing& view() const { return view_; }
    std::int64_t rows() const { return view_.rows(); }
    std::int64_t begin(std::int64_t sequence) const { return offsets_[static_cast<std::size_t>(sequence)]; }

private:
    std::vector<std::int32_t> offsets_;
    Packing view_;
};

// Sequences [first, first + count) of a batch.
struct SequenceRange {
    std::size_t first = 0;
    std::size_t count = 0;
};

// Consecutive ranges that cover all sequences, each of one sequence or of at most `max_rows` rows.
std::vector<SequenceRange> split_batch(std::span<const std::int64_t> lengths, std::int64_t max_rows = kRowsPerPass);

std::vector<std::int64_t> lengths_of(std::span<const TokenSpan> sequences);

}  // namespace lrengine
