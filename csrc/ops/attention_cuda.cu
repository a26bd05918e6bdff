// out_i = sum_j softmax_j(scale q_i . k_j + bias(i, j)) v_j over packed sequences, all queries at once.
//
// A block is a tile of queries of one head: it walks over the visible keys 32 at a time through shared memory and keeps
// a running softmax (Dao et al., arXiv 2205.14135), so that no score is written. Read: q once, k and v once a tile of
// queries (from L2 after the first), out written once: at B = 32, S = 128, 12 heads of 64 in bfloat16 4 x 6 MiB, a
// floor of 6 us at 4.3 TB/s. The 4 B H S^2 d = 1.6 GFLOP take 24 us on the float32 cores (67 TFLOP/s): attention is
// bound by arithmetic here, and tensor cores are what would help (see attention_tile.cuh).
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/attention_loads.cuh"
#include "ops/attention_tile.cuh"
#include "ops/relative_bias.cuh"

namespace lrengine::cuda {

namespace {

struct AttentionJob {
    PackedView q, k, v;
    MatrixView out;
    const std::int32_t *query_offsets, *key_offsets;
    int tiles;  // of queries, for the longest sequence
    int group;  // query heads that share a key head
    int head_dim;
    float scale;
    bool causal;
    bool whole;  // q, k and v can be read in packs
    BucketEdges bias;
};

// Keys and values together, as far as registers reach.
template <int kColumns>
__device__ __forceinline__ void load_keys_and_values(const AttentionJob& job, const HeadRows& part, float* keys,
                                                     float* values) {
    using Loader = TileLoader<kColumns, kKeyTile>;
    if (!job.whole || Loader::kItems > 2) {
        load_tile<kColumns, kKeyTile>(job.k, part, job.whole, 1.0f, keys);
        load_tile<kColumns, kKeyTile>(job.v, part, job.whole, 1.0f, values);
        return;
    }
    Loader k, v;
    k.fetch(job.k, part, 0);
    v.fetch(job.v, part, 0);
    k.put(job.k.matrix.dtype, 1.0f, keys, 0);
    v.put(job.v.matrix.dtype, 1.0f, values, 0);
}

template <int kQueries, int kColumnsPerLane>
constexpr std::size_t shared_floats() {
    constexpr int kQueryTile = kQueries * kAttentionWarps;
    return static_cast<std::size_t>(kTileStride<kColumnsPerLane * kWarp>) * (kQueryTile + 2 * kKeyTile) +
           kQueryTile * kKeyTile + (kQueryTile + kKeyTile);
}

// As many as leave enough registers for the sums.
template <int kQueries, int kColumnsPerLane>
constexpr int kBlocksPerProcessor = kQueries * kColumnsPerLane > 16 ? (kQueries == 8 ? 2 : 3) : (kQueries == 8 ? 3 : 4);

template <int kQueries, int kColumnsPerLane>
__global__ void __launch_bounds__(kAttentionThreads, kBlocksPerProcessor<kQueries, kColumnsPerLane>)
    attention_kernel(__grid_constant__ const AttentionJob job) {
    using Attention = WarpAttention<kQueries, kColumnsPerLane>;
    constexpr int kQueryTile = kQueries * kAttentionWarps, kStride = Attention::kStride;
    LRENGINE_DYNAMIC_SHARED(float, shared);
    float* queries = shared;
    float* keys = queries + kQueryTile * kStride;
    float* values = keys + kKeyTile * kStride;
    float* weights = values + kKeyTile * kStride;
    float* biases = weights + kQueryTile * kKeyTile;  // by key - query, from 1 - kQueryTile on
    const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
    const int thread = warp * kWarp + lane;
    wait_for_previous_kernels();
    allow_next_kernel();

    const int sequence = static_cast<int>(blockIdx.x) / job.tiles, head = static_cast<int>(blockIdx.y);
    const int first_query = static_cast<int>(blockIdx.x) % job.tiles * kQueryTile;
    const int query_begin = job.query_offsets[sequence], key_begin = job.key_offsets[sequence];
    const int query_count = job.query_offsets[sequence + 1] - query_begin;
    const int key_count = job.key_offsets[sequence + 1] - key_begin;
    if (first_query >= query_count) return;
    const int past = job.causal ? key_count - query_count : 0;
    const int visible_to_last = first_query + kQueryTile + past;
    const int key_end = job.causal ? max(min(key_count, visible_to_last), 0) : key_count;
    const int head_dim = job.head_dim, columns = (head_dim + kPack - 1) / kPack * kPack;
    const std::int64_t kv_col = static_cast<std::int64_t>(head / job.group) * head_dim;
    const std::int64_t q_col = static_cast<std::int64_t>(head) * head_dim;

    load_tile<Attention::kColumns, kQueryTile>(
        job.q, {query_begin + first_query, query_count - first_query, q_col, head_dim}, job.whole, job.scale, queries);
    const int own_query = first_query + warp * kQueries;
    float* own_weights = weights + warp * kQueries * kKeyTile;
    Attention attention;
    attention.clear();
    for (int first_key = 0; first_key < key_end; first_key += kKeyTile) {
        __syncthreads();  // nobody reads the tiles before
        load_keys_and_values<Attention::kColumns>(job, {key_begin + first_key, key_count - first_key, kv_col, head_dim},
                                                  keys, values);
        if (job.bias.table != nullptr && thread < kQueryTile + kKeyTile - 1) {
            const int distance = first_key - (first_query + past) + thread + 1 - kQueryTile;
            biases[thread] = job.bias.bias(distance, head);
        }
        __syncthreads();

        float scores[kQueries];
        bool visible[kQueries];
        attention.score(queries + warp * kQueries * kStride, keys, columns, scores);
        const int key = first_key + lane;
#pragma unroll
        for (int i = 0; i < kQueries; ++i) {
            visible[i] = key < key_count && (!job.causal || key <= own_query + i + past);
            if (job.bias.table != nullptr) scores[i] += biases[lane - (warp * kQueries + i) + kQueryTile - 1];
        }
        attention.weigh(scores, visible, own_weights);
        attention.add_values(own_weights, values);
    }

#pragma unroll
    for (int i = 0; i < kQueries; ++i) {
        const float sum = warp_sum(attention.sum[i]);
        const float factor = sum != 0.0f ? 1.0f / sum : 0.0f;  // 0: no key was visible
        if (own_query + i >= query_count) continue;
#pragma unroll
        for (int c = 0; c < kColumnsPerLane; ++c) {
            const int col = c * kWarp + lane;
            if (col < head_dim) store(job.out, query_begin + own_query + i, q_col + col, attention.out[i][c] * factor);
        }
    }
}

void check_shapes(const AttentionArgs& args) {
    const std::int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
    expect(args.kv_heads > 0 && args.heads % args.kv_heads == 0, "attention: heads do not share key heads evenly");
    expect(args.queries.count == args.keys.count, "attention: other sequences of queries than of keys");
    expect(has_shape(args.q, args.q.rows, width) && args.q.rows >= args.queries.rows(),
           "attention: q is not [Mq, H*d]");
    expect(has_shape(args.out, args.q.rows, width), "attention: out is not [Mq, H*d]");
    expect(has_shape(args.k, args.k.rows, kv_width) && args.k.rows >= args.keys.rows(),
           "attention: k is not [Mk, Hkv*d]");
    expect(has_shape(args.v, args.k.rows, kv_width), "attention: v is not [Mk, Hkv*d]");
    expect_supported(args.head_dim <= 256, "attention: a head of more than 256 columns");
    expect_supported(args.heads <= 65535, "attention: more than 65535 heads");
}

template <int kQueries, int kColumnsPerLane>
void launch_attention(LaunchQueue& queue, AttentionJob job, const AttentionArgs& args, std::int64_t longest) {
    constexpr std::size_t kSharedBytes = shared_floats<kQueries, kColumnsPerLane>() * sizeof(float);
    if constexpr (kSharedBytes > 48 * 1024) allow_shared(attention_kernel<kQueries, kColumnsPerLane>, kSharedBytes);
    job.tiles = static_cast<int>(divide_up(longest, kQueries * kAttentionWarps));
    const LaunchShape shape{
        dim3(static_cast<unsigned>(job.tiles * args.queries.count), static_cast<unsigned>(args.heads)),
        dim3(kWarp, kAttentionWarps), kSharedBytes};
    launch(queue, shape, attention_kernel<kQueries, kColumnsPerLane>, job);
}

}  // namespace

void CudaBackend::attention(const AttentionArgs& args) {
    check_shapes(args);
    std::int64_t longest = 0, tiles = 0;
    for (std::int64_t b = 0; b < args.queries.count; ++b) {
        longest = std::max(longest, args.queries.length(b));
        tiles += divide_up(args.queries.length(b), 8 * kAttentionWarps);
    }
    if (longest == 0) return;
    const bool whole = args.head_dim % kPack == 0 && packed_view_of(args.q).aligned && packed_view_of(args.k).aligned &&
                       packed_view_of(args.v).aligned;
    const AttentionJob job{packed_view_of(args.q),
                           packed_view_of(args.k),
                           packed_view_of(args.v),
                           view_of(args.out),
                           args.queries.device,
                           args.keys.device,
                           0,
                           static_cast<int>(args.heads / args.kv_heads),
                           static_cast<int>(args.head_dim),
                           args.scale,
                           args.causal,
                           whole,
                           bucket_edges_of(args.bias, args.heads)};
    // With few tiles smaller ones: a block's work is shorter, and there are more processors than blocks.
    const bool few = tiles * args.heads < 2 * device_->processors();
    const std::int64_t d = args.head_dim;
    const auto run = [&]<int kColumnsPerLane>() {
        few ? launch_attention<4, kColumnsPerLane>(queue_, job, args, longest)
            : launch_attention<8, kColumnsPerLane>(queue_, job, args, longest);
    };
    if (d <= 32) return run.template operator()<1>();
    if (d <= 64) return run.template operator()<2>();
    if (d <= 128) return run.template operator()<4>();
    launch_attention<4, 8>(queue_, job, args, longest);
}

}  // namespace lrengine::cuda
