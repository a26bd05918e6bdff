#include "models/decoder_pass.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

void check_step(const StepInput& input, std::int64_t capacity, std::int64_t cache_rows,
                std::span<const std::int32_t> source_begin) {
    const std::size_t rows = input.tokens.size();
    const bool sizes = input.slots.size() == rows && input.sources.size() == rows && input.lengths.size() == rows &&
                       (input.history.empty() || input.history.size() == rows * static_cast<std::size_t>(capacity));
    if (!sizes) fail(ErrorCode::kInternal, "decode step: spans of different lengths");
    for (std::size_t m = 0; m < rows; ++m) {
        const bool inside = input.slots[m] >= 0 && (input.slots[m] + 1) * capacity <= cache_rows &&
                            input.lengths[m] >= 0 && input.lengths[m] < capacity;
        const bool known =
            source_begin.empty() ||
            (input.sources[m] >= 0 && static_cast<std::size_t>(input.sources[m]) + 1 < source_begin.size());
        if (!inside || !known)
            fail(ErrorCode::kInternal, "decode step: row " + std::to_string(m) + " is outside the cache");
    }
}

}  // namespace

SequencePass::SequencePass(const Workspace& work, const PackedRows& sequences, const PackedRows* sources,
                           const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache* cross)
    : sequences_(sequences.view()), cache_(cache), cross_(cross) {
    if (sources != nullptr) sources_ = sources->view();
    std::vector<std::int32_t> host_positions, rows;
    for (std::int64_t b = 0; b < sequences_.count; ++b) {
        for (std::int64_t t = 0; t < sequences_.length(b); ++t) {
            host_positions.push_back(static_cast<std::int32_t>(t));
            if (cache != nullptr)
                rows.push_back(static_cast<std::int32_t>(cache_begin[static_cast<std::size_t>(b)] + t));
        }
    }
    positions = work.upload(host_positions);
    if (cache != nullptr) cache_rows_ = work.upload(rows);
}

CacheTarget SequencePass::cache_target(std::size_t layer) const {
    if (cache_ == nullptr) return {};
    return {.keys = cache_->keys(layer), .values = cache_->values(layer), .rows = cache_rows_};
}

void SequencePass::attend_self(const Workspace& work, std::size_t, const AttentionShape& shape, const Heads& heads,
                               const LinearArgs& out) const {
    work.backend.attention({.q = heads.query,
                            .k = heads.key,
                            .v = heads.value,
                            .out = out.x,
                            .queries = sequences_,
                            .keys = sequences_,
                            .heads = shape.heads,
                            .kv_heads = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .scale = shape.scale,
                            .causal = true,
                            .bias = {}});
    work.backend.linear(out);
}

void SequencePass::attend_source(const Workspace& work, std::size_t layer, const AttentionShape& shape,
                                 const Matrix& query, const LinearArgs& out) const {
    work.backend.attention({.q = query,
                            .k = cross_->keys(layer),
                            .v = cross_->values(layer),
                            .out = out.x,
                            .queries = sequences_,
                            .keys = sources_,
                            .heads = shape.heads,
                            .kv_heads = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .scale = shape.scale,
                            .causal = false,
                            .bias = {}});
    work.backend.linear(out);
}

StepRows StepPass::prepare(const Workspace& work, const StepInput& input, std::int64_t capacity,
                           std::span<const std::int32_t> source_begin, std::int64_t generated) {
    check_step(input, capacity, cache_.keys(0).rows, source_begin);
    const std::size_t rows = input.tokens.size();
    const auto stride = static_cast<std::int32_t>(capacity);
    capacity_ = capacity;
    staging_.clear();
    // Eight columns of M numbers, then the history: one copy to the device.
    staging_.insert(staging_.end(), input.tokens.begin(), input.tokens.end());
    staging_.insert(staging_.end(), input.lengths.begin(), input.lengths.end());
    for (std::size_t m = 0; m < rows; ++m) staging_.push_back(input.slots[m] * stride + input.lengths[m]);
    for (std::size_t m = 0; m < rows; ++m) staging_.push_back(input.slots[m] * stride);
    for (std::size_t m = 0; m < rows; ++m) staging_.push_back(input.lengths[m] + 1);
    staging_.insert(staging_.end(), rows, static_cast<std::int32_t>(generated));
    const std::size_t own_columns = staging_.size();
    if (!source_begin.empty()) {
        const auto begin = [&](std::size_t m) { return source_begin.begin() + input.sources[m]; };
        for (std::size_t m = 0; m < rows; ++m) staging_.push_back(begin(m)[0]);
        for (std::size_t m = 0; m < rows; ++m) staging_.push_back(begin(m)[1] - begin(m)[0]);
    }
    const std::size_t columns = staging_.size();
    staging_.insert(staging_.end(), input.history.begin(), input.history.end());

    std::int32_t* column = work.upload(staging_);
    const StepRows uploaded{.rows = static_cast<std::int64_t>(rows),
                            .capacity = capacity,
                            .tokens = column,
                            .positions = column + rows,
                            .cache_rows = column + 2 * rows,
                            .lengths = column + 4 * rows,
                            .history = input.history.empty() ? nullptr : column + columns,
                            .generated = column + 5 * rows};
    tokens = uploaded.tokens;
    positions = uploaded.positions;
    history_ = uploaded.history;
    cache_rows_ = uploaded.cache_rows;
    lengths_ = uploaded.lengths;
    begin_ = column + 3 * rows;
    source_begin_ = column + own_columns;
    source_length_ = source_begin_ + rows;
    return uploaded;
}

void StepPass::describe(std::vector<std::uint64_t>& words) const {
    for (const std::int32_t* column :
         {tokens, positions, history_, cache_rows_, lengths_, begin_, source_begin_, source_length_}) {
        words.push_back(reinterpret_cast<std::uintptr_t>(column));
    }
}

void StepPass::set_longest(std::int64_t own, std::int64_t of_source) {
    longest_ = own;
    longest_source_ = of_source;
}

CacheTarget StepPass::cache_target(std::size_t layer) const {
    return {.keys = cache_.keys(layer), .values = cache_.values(layer), .rows = cache_rows_, .only = true};
}

void StepPass::attend_self(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Heads& heads,
                           const LinearArgs& out) const {
    work.backend.attend_project({.attention = {.q = heads.query,
                                               .out = out.x,
                                               .k = cache_.keys(layer),
                                               .v = cache_.values(layer),
                                               .begin = begin_,
                                               .length = lengths_,
                                               .table = history_,
                                               .capacity = capacity_,
                                               .heads = shape.heads,
                                               .kv_heads = shape.kv_heads,
                                               .head_dim = shape.head_dim,
                                               .scale = shape.scale,
                                               .longest = longest_},
                                 .out = out});
}

void StepPass::attend_source(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Matrix& query,
                             const LinearArgs& out) const {
    work.backend.attend_project({.attention = {.q = query,
                                               .out = out.x,
                                               .k = cross_.keys(layer),
                                               .v = cross_.values(layer),
                                               .begin = source_begin_,
                                               .length = source_length_,
                                               .heads = shape.heads,
                                               .kv_heads = shape.kv_heads,
                                               .head_dim = shape.head_dim,
                                               .scale = shape.scale,
                                               .longest = longest_source_},
                                 .out = out});
}

}  // namespace lrengine
