// One forward pass of a decoder: which rows it feeds, and how they see their own past and their source.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/attention_block.h"
#include "models/generator.h"
#include "models/kv_cache.h"
#include "models/packing.h"

namespace lrengine {

// Rows of a cache that a pass writes.
struct CacheTarget {
    Matrix keys, values;                 // null: no cache
    const std::int32_t* rows = nullptr;  // [M]
    bool only = false;                   // attention reads the cache, not the rows' own keys and values
};

// How the M rows of a pass attend. Two forms, so that the layers are written once. Pointers are to backend memory.
class DecoderPass {
public:
    virtual ~DecoderPass() = default;

    // Position of each row in its sequence, from 0: [M].
    const std::int32_t* positions = nullptr;

    // Where the keys and values of this layer's rows go.
    virtual CacheTarget cache_target(std::size_t layer) const = 0;
    // Keys and values of the sources that have yet to be made, with the rows' own: they read the same weights.
    virtual std::span<const LinearArgs> source_projections(std::size_t) const { return {}; }
    // linear(out) of the causal attention of the rows to their sequences, which goes to out.x [M, H*d]; `heads` are
    // this layer's q, k, v of the rows.
    virtual void attend_self(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Heads& heads,
                             const LinearArgs& out) const = 0;
    // The same of the attention of the rows to their sources: keys and values [source rows, Hkv*d].
    virtual void attend_source(const Workspace& work, std::size_t layer, const AttentionShape& shape,
                               const Matrix& query, const LinearArgs& out) const = 0;
};

// Whole sequences from position 0: prefill (keys and values go to a cache) and teacher forcing (no cache).
class SequencePass final : public DecoderPass {
public:
    // `sequences` and `sources` (null without cross attention) must outlive the pass. With a cache, sequence b is
    // written from row cache_begin[b] on. `cross` has the rows of `sources`.
    SequencePass(const Workspace& work, const PackedRows& sequences, const PackedRows* sources, const KvCache* cache,
                 std::span<const std::int64_t> cache_begin, const KvCache* cross);

    // By layer; none where all layers' are there.
    std::vector<std::vector<LinearArgs>> pending;

    CacheTarget cache_target(std::size_t layer) const override;
    std::span<const LinearArgs> source_projections(std::size_t layer) const override {
        return layer < pending.size() ? std::span<const LinearArgs>(pending[layer]) : std::span<const LinearArgs>();
    }
    void attend_self(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Heads& heads,
                     const LinearArgs& out) const override;
    void attend_source(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Matrix& query,
                       const LinearArgs& out) const override;

private:
    Packing sequences_, sources_;
    const KvCache* cache_;
    const KvCache* cross_;
    const std::int32_t* cache_rows_ = nullptr;  // [M]
};

// One token a row, after what the cache holds.
class StepPass final : public DecoderPass {
public:
    // The caches must outlive the pass.
    StepPass(const KvCache& cache, const KvCache& cross) : cache_(cache), cross_(cross) {}

    // Uploads what a step needs into the arena's current scope. source_begin [sources + 1]: row offsets of the sources
    // in the cross cache; empty without cross attention. Throws Error(kInternal) for rows outside the cache.
    // The result may be changed on the device, for a step that follows. Its `generated` is `generated` for every row.
    StepRows prepare(const Workspace& work, const StepInput& input, std::int64_t capacity,
                     std::span<const std::int32_t> source_begin, std::int64_t generated = 0);
    // No row sees more keys of its own, or of its source.
    void set_longest(std::int64_t own, std::int64_t of_source);

    // Appends where the rows' inputs lie.
    void describe(std::vector<std::uint64_t>& words) const;

    const std::int32_t* tokens = nullptr;  // [M]

    CacheTarget cache_target(std::size_t layer) const override;
    void attend_self(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Heads& heads,
                     const LinearArgs& out) const override;
    void attend_source(const Workspace& work, std::size_t layer, const AttentionShape& shape, const Matrix& query,
                       const LinearArgs& out) const override;

private:
    const KvCache& cache_;
    const KvCache& cross_;
    std::int64_t capacity_ = 0;  // positions of a slot
    std::int64_t longest_ = 0, longest_source_ = 0;
    std::vector<std::int32_t> staging_;                              // host copy of everything uploaded
    const std::int32_t *cache_rows_ = nullptr, *lengths_ = nullptr;  // [M]: row written; keys seen, this one included
    const std::int32_t *begin_ = nullptr, *history_ = nullptr;       // [M]; [M, capacity] or null
    const std::int32_t *source_begin_ = nullptr, *source_length_ = nullptr;  // [M]
};

}  // namespace lrengine
