#include "models/packing.h"

namespace lrengine {

PackedRows::PackedRows(const Workspace& work, std::span<const std::int64_t> lengths) {
    offsets_.reserve(lengths.size() + 1);
    offsets_.push_back(0);
    for (const std::int64_t length : lengths) offsets_.push_back(offsets_.back() + static_cast<std::int32_t>(length));
    view_.device = work.upload(offsets_);
    view_.host = work.backend.shares_host_memory() ? view_.device : offsets_.data();
    view_.count = static_cast<std::int64_t>(lengths.size());
}

std::vector<SequenceRange> split_batch(std::span<const std::int64_t> lengths, std::int64_t max_rows) {
    std::vector<SequenceRange> ranges;
    std::int64_t rows = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        if (ranges.empty() || rows + lengths[i] > max_rows) {
            ranges.push_back({i, 0});
            rows = 0;
        }
        rows += lengths[i];
        ++ranges.back().count;
    }
    return ranges;
}

std::vector<std::int64_t> lengths_of(std::span<const TokenSpan> sequences) {
    std::vector<std::int64_t> lengths;
    lengths.reserve(sequences.size());
    for (const TokenSpan sequence : sequences) lengths.push_back(static_cast<std::int64_t>(sequence.size()));
    return lengths;
}

}  // namespace lrengine
