#include <algorithm>

#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"
#include "ops/relative_bias.h"

namespace lrengine {

namespace {

// Queries that one piece of work takes: enough to use a head's keys several times while they are in the cache.
constexpr std::int64_t kQueryBlock = 48;

// Pointers to the keys and values of one sequence, and room for scores.
struct KeyScratch {
    const float** keys;
    const float** values;
    float* scores;

    KeyScratch(std::int64_t count, std::int64_t tile_rows) {
        const std::int64_t pointers = 2 * count * static_cast<std::int64_t>(sizeof(float*));
        const std::int64_t floats = tile_rows * (count + kScorePadding);
        auto* memory = piece_scratch().get<char>(pointers + floats * static_cast<std::int64_t>(sizeof(float)));
        keys = reinterpret_cast<const float**>(memory);
        values = keys + count;
        scores = reinterpret_cast<float*>(memory + pointers);
    }
};

struct Longest {
    std::int64_t query = 0, key = 0;
};

Longest longest_of(const AttentionArgs& args) {
    Longest longest;
    for (std::int64_t b = 0; b < args.queries.count; ++b) {
        longest.query = std::max(longest.query, args.queries.length(b));
        longest.key = std::max(longest.key, args.keys.length(b));
    }
    return longest;
}

void check(const AttentionArgs& args) {
    const std::int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
    expect(args.kv_heads > 0 && args.heads % args.kv_heads == 0, "attention: heads do not share key heads evenly");
    expect(args.queries.count == args.keys.count, "attention: other sequences of queries than of keys");
    expect(has_shape(args.q, args.q.rows, width) && args.q.rows >= args.queries.rows(),
           "attention: q is not [Mq, H*d]");
    expect(has_shape(args.out, args.q.rows, width), "attention: out is not [Mq, H*d]");
    expect(has_shape(args.k, args.k.rows, kv_width) && args.k.rows >= args.keys.rows(),
           "attention: k is not [Mk, Hkv*d]");
    expect(has_shape(args.v, args.k.rows, kv_width), "attention: v is not [Mk, Hkv*d]");
}

// Blocks of queries before each sequence; [count] is all of them.
void count_blocks(const Packing& queries, std::int64_t* blocks) {
    blocks[0] = 0;
    for (std::int64_t b = 0; b < queries.count; ++b) {
        blocks[b + 1] = blocks[b] + (queries.length(b) + kQueryBlock - 1) / kQueryBlock;
    }
}

// What all pieces of an attention job look at.
struct AttentionJob {
    const AttentionArgs& args;
    const CpuKernels& kernels;
    const std::int64_t* blocks;
    const BiasByDistance bias;
    const Longest longest;

    // Items are ordered by sequence, head, block of queries: the pieces of a causal job are about equal.
    void run(std::int64_t begin, std::int64_t end) const {
        KeyScratch scratch(longest.key, kernels.tile_rows);
        std::int64_t sequence = -1;
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t* after =
                std::upper_bound(blocks, blocks + args.queries.count, item,
                                 [&](std::int64_t value, std::int64_t before) { return value < before * args.heads; });
            const std::int64_t b = after - blocks - 1;
            if (b != sequence) point_at_keys(b, scratch);
            sequence = b;
            const std::int64_t within = item - blocks[b] * args.heads, count = blocks[b + 1] - blocks[b];
            attend(b, within / count, within % count * kQueryBlock, scratch);
        }
    }

    void point_at_keys(std::int64_t b, KeyScratch& scratch) const {
        const std::int64_t first = args.keys.host[b];
        for (std::int64_t j = 0; j < args.keys.length(b); ++j) {
            scratch.keys[j] = args.k.row<float>(first + j);
            scratch.values[j] = args.v.row<float>(first + j);
        }
    }

    void attend(std::int64_t b, std::int64_t head, std::int64_t first, const KeyScratch& scratch) const {
        const std::int64_t queries = args.queries.length(b), keys = args.keys.length(b), d = args.head_dim;
        const std::int64_t row = args.queries.host[b] + first, past = args.causal ? keys - queries : 0;
        AttentionTask task;
        task.q = args.q.row<float>(row) + head * d;
        task.q_stride = args.q.stride;
        task.rows = std::min(kQueryBlock, queries - first);
        task.keys = scratch.keys;
        task.values = scratch.values;
        task.offset = head / (args.heads / args.kv_heads) * d;
        task.count = keys;
        task.visible = args.causal ? first + past + 1 : keys;
        task.visible_step = args.causal ? 1 : 0;
        task.scale = args.scale;
        if (args.bias.table != nullptr) task.bias = bias.from(head, -first - past);
        task.out = args.out.row<float>(row) + head * d;
        task.out_stride = args.out.stride;
        task.head_dim = d;
        kernels.attention(task, scratch.scores);
    }
};

}  // namespace

void CpuBackend::attention(const AttentionArgs& args) {
    check(args);
    const Longest longest = longest_of(args);
    const std::int64_t distances = args.bias.table != nullptr ? std::max(longest.query, longest.key) : 0;
    const std::int64_t bias_floats = BiasByDistance::floats(args.heads, distances);
    const auto offsets = static_cast<std::int64_t>(sizeof(std::int64_t)) * (args.queries.count + 1);
    auto* memory = job_scratch().get<char>(offsets + bias_floats * static_cast<std::int64_t>(sizeof(float)));
    auto* blocks = reinterpret_cast<std::int64_t*>(memory);
    count_blocks(args.queries, blocks);
    const AttentionJob job{args, kernels_, blocks,
                           BiasByDistance(args.bias, args.heads, distances, reinterpret_cast<float*>(memory + offsets)),
                           longest};
    const std::int64_t cost = std::min(kQueryBlock, longest.query) * longest.key * args.head_dim / 4;
    parallel(blocks[args.queries.count] * args.heads, cost,
             [&](std::int64_t begin, std::int64_t end) { job.run(begin, end); });
}

namespace {

void check(const CachedAttentionArgs& args) {
    const std::int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
    expect(args.kv_heads > 0 && args.heads % args.kv_heads == 0,
           "cached_attention: heads do not share key heads evenly");
    expect(has_shape(args.q, args.q.rows, width), "cached_attention: q is not [M, H*d]");
    expect(has_shape(args.out, args.q.rows, width), "cached_attention: out is not [M, H*d]");
    expect(has_shape(args.k, args.k.rows, kv_width), "cached_attention: k is not [*, Hkv*d]");
    expect(has_shape(args.v, args.k.rows, kv_width), "cached_attention: v is not [*, Hkv*d]");
}

void point_at_cache(const CachedAttentionArgs& args, std::int64_t m, KeyScratch& scratch) {
    const std::int32_t* slots = args.table != nullptr ? args.table + m * args.capacity : nullptr;
    for (std::int64_t t = 0; t < args.length[m]; ++t) {
        const std::int64_t row = slots != nullptr ? slots[t] * args.capacity + t : args.begin[m] + t;
        expect(row >= 0 && row < args.k.rows, "cached_attention: a key outside the cache");
        scratch.keys[t] = args.k.row<float>(row);
        scratch.values[t] = args.v.row<float>(row);
    }
}

}  // namespace

void CpuBackend::cached_attention(const CachedAttentionArgs& args) {
    check(args);
    const std::int64_t rows = args.q.rows, d = args.head_dim;
    std::int64_t longest = 0;
    for (std::int64_t m = 0; m < rows; ++m) longest = std::max<std::int64_t>(longest, args.length[m]);
    const std::int64_t group = args.heads / args.kv_heads;
    parallel(rows * args.kv_heads, 2 * longest * d, [&](std::int64_t begin, std::int64_t end) {
        KeyScratch scratch(longest, kernels_.tile_rows);
        std::int64_t current = -1;
        for (std::int64_t item = begin; item < end; ++item) {
            const std::int64_t m = item / args.kv_heads, kv_head = item % args.kv_heads;
            if (m != current) point_at_cache(args, m, scratch);
            current = m;
            AttentionTask task;
            // The query heads that share a key head are the rows.
            task.q = args.q.row<float>(m) + kv_head * group * d;
            task.q_stride = d;
            task.rows = group;
            task.keys = scratch.keys;
            task.values = scratch.values;
            task.offset = kv_head * d;
            task.count = task.visible = args.length[m];
            task.scale = args.scale;
            task.out = args.out.row<float>(m) + kv_head * group * d;
            task.out_stride = d;
            task.head_dim = d;
            kernels_.attention(task, scratch.scores);
        }
    });
}

}  // namespace lrengine
