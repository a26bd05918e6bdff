// out = softmax(scale q . k_t) v over the cached keys t of one query a row: the attention of a decode step.
//
// Every key and value is read once a row and key head, for all query heads that share it: 2 Hkv d elements a key.
// SWCM's decoder (12 heads of 64, bfloat16), 256 keys: 768 KiB a layer, 0.18 us at 4.3 TB/s; 32 rows: 25 MB, 5.9 us.
// One row is bound by latency, so a block has as many loads in flight as registers allow: with 16 warps, all of those
// 256 keys.
//
// A block is a row, a key head and a share of the keys; the queries of the head's group are in registers. A key's 2^n
// lanes take eight columns each, for the key and then for its value, with a running softmax of their own: nothing is
// exchanged before the end, when lanes, warps and, with several shares, blocks (combine_kernel) are merged.
// Lengths are read on the device: a captured launch stays right when they grow. Its shape comes from the caller's bound
// for them (a bucket of the present length), else from the capacity, or from the rows of k where there is none.
//
// Beams of one source read the same cross K/V: from L2 after the first of them, since their blocks are neighbours. A
// block of several rows would read it once: for 4 beams and 64 source tokens, 192 KiB instead of 768 KiB of L2 traffic
// a layer. That is below what one launch costs; it pays from about 16 beams or 2,048 source tokens on.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/cached_attention.cuh"

namespace lrengine::cuda {

namespace {

// A block: row and part of the query group, key head, share of the keys.
template <Elements kElements, int kGroup>
__global__ void __launch_bounds__(kWarp* kMaxAttentionWarps) cached_attention_kernel(CachedAttentionJob job) {
    LRENGINE_DYNAMIC_SHARED(float, parts);
    const int at = static_cast<int>(blockIdx.x);
    const AttentionItem item{at / job.group_blocks, at % job.group_blocks, static_cast<int>(blockIdx.y),
                             static_cast<int>(blockIdx.z)};
    wait_for_previous_kernels();
    allow_next_kernel();
    attend<kElements, kGroup>(
        job, item, {static_cast<int>(threadIdx.x), static_cast<int>(threadIdx.y), static_cast<int>(blockDim.y)}, parts);
}

// Merges the shares of a row and head: M H shares (d + 2) floats read, M H d elements written.
__global__ void __launch_bounds__(kWarp) combine_kernel(CachedAttentionJob job) {
    const std::int64_t row = blockIdx.x, head = blockIdx.y;
    wait_for_previous_kernels();
    allow_next_kernel();
    const int part_floats = job.head_dim + 2;
    const float* parts = job.partial + (row * job.heads + head) * job.shares * part_floats;
    for (int col = static_cast<int>(threadIdx.x); col < job.head_dim; col += kWarp) {
        store(job.out, row, head * job.head_dim + col, normalized(merge_parts(parts, job.shares, part_floats, col)));
    }
}

// Lanes of a key: a power of two.
int lanes_per_key(const CachedAttentionArgs& args) {
    int lanes = 1;
    while (lanes * kPack < args.head_dim) lanes *= 2;
    return lanes;
}

AttentionPartition partition_of(const CachedAttentionArgs& args, Elements elements, int processors) {
    AttentionPartition partition{1, 1, 1};
    const std::int64_t group = args.heads / args.kv_heads;
    while (partition.group < group && partition.group < kMaxGroup) partition.group *= 2;

    const std::int64_t bound = most_keys(args), keys = keys_per_warp(args, elements);
    const std::int64_t blocks = args.q.rows * args.kv_heads * divide_up(group, partition.group);
    // Blocks that fill the device several times over need few warps each.
    std::int64_t most = blocks >= 4 * processors ? 4 : kMaxAttentionWarps;
    while (most > 1 && merge_floats(static_cast<int>(most), partition.group, static_cast<int>(args.head_dim)) > 12288) {
        most /= 2;
    }
    partition.warps = static_cast<int>(std::clamp<std::int64_t>(divide_up(bound, keys), 1, most));
    // A second kernel to merge costs about two steps of a block, however few of the keys are there yet.
    constexpr std::int64_t kStepsWorthSharing = 8;
    const std::int64_t steps = divide_up(bound, keys * partition.warps);
    const std::int64_t room = std::max<std::int64_t>(2 * processors / std::max<std::int64_t>(blocks, 1), 1);
    if (steps >= kStepsWorthSharing) partition.shares = static_cast<int>(std::min({steps / 2, room, kMaxShares}));
    return partition;
}

}  // namespace

void check_cached_attention(const CachedAttentionArgs& args) {
    const std::int64_t width = args.heads * args.head_dim, kv_width = args.kv_heads * args.head_dim;
    expect(args.kv_heads > 0 && args.heads % args.kv_heads == 0,
           "cached_attention: heads do not share key heads evenly");
    expect(has_shape(args.q, args.q.rows, width), "cached_attention: q is not [M, H*d]");
    expect(has_shape(args.out, args.q.rows, width), "cached_attention: out is not [M, H*d]");
    expect(has_shape(args.k, args.k.rows, kv_width), "cached_attention: k is not [*, Hkv*d]");
    expect(has_shape(args.v, args.k.rows, kv_width), "cached_attention: v is not [*, Hkv*d]");
    expect_supported(args.head_dim <= kMaxHeadDim, "cached_attention: a head of more than 256 columns");
    expect_supported(args.kv_heads <= 65535, "cached_attention: more than 65535 key heads");
}

Elements common_elements_of(const CachedAttentionArgs& args) {
    const bool whole = args.head_dim % kPack == 0 && packed_view_of(args.q).aligned && packed_view_of(args.k).aligned &&
                       packed_view_of(args.v).aligned;
    return whole && args.k.dtype == args.v.dtype ? elements_of(args.k.dtype) : Elements::kAny;
}

std::int64_t keys_per_warp(const CachedAttentionArgs& args, Elements elements) {
    int in_flight = 0;
    with_elements(elements, [&](auto e) { in_flight = kKeysInFlight<e.value>; });
    return static_cast<std::int64_t>(kWarp / lanes_per_key(args)) * in_flight;
}

CachedAttentionJob job_of(const CachedAttentionArgs& args, const AttentionPartition& partition) {
    const std::int64_t group = args.heads / args.kv_heads;
    return {packed_view_of(args.q),
            packed_view_of(args.k),
            packed_view_of(args.v),
            view_of(args.out),
            args.begin,
            args.length,
            args.table,
            args.capacity,
            args.k.rows,
            nullptr,
            static_cast<int>(args.heads),
            static_cast<int>(group),
            static_cast<int>(divide_up(group, partition.group)),
            static_cast<int>(args.head_dim),
            lanes_per_key(args),
            partition.shares,
            args.scale};
}

void CudaBackend::cached_attention(const CachedAttentionArgs& args) {
    check_cached_attention(args);
    const Elements elements = common_elements_of(args);
    const AttentionPartition partition = partition_of(args, elements, device_->processors());
    const std::int64_t rows = args.q.rows;
    CachedAttentionJob job = job_of(args, partition);
    if (partition.shares > 1) {
        job.partial = static_cast<float*>(scratch(static_cast<std::size_t>(partial_floats(job, rows)) * sizeof(float)));
    }
    const int head_dim = static_cast<int>(args.head_dim);
    const LaunchShape shape{dim3(static_cast<unsigned>(rows * job.group_blocks), static_cast<unsigned>(args.kv_heads),
                                 static_cast<unsigned>(partition.shares)),
                            dim3(kWarp, static_cast<unsigned>(partition.warps)),
                            merge_floats(partition.warps, partition.group, head_dim) * sizeof(float)};
    with_elements(elements, [&](auto e) {
        if (partition.group == 1) launch(queue_, shape, cached_attention_kernel<e.value, 1>, job);
        if (partition.group == 2) launch(queue_, shape, cached_attention_kernel<e.value, 2>, job);
        if (partition.group == 4) launch(queue_, shape, cached_attention_kernel<e.value, 4>, job);
    });
    if (partition.shares > 1) {
        const LaunchShape merge{dim3(static_cast<unsigned>(rows), static_cast<unsigned>(args.heads)), dim3(kWarp)};
        launch(queue_, merge, combine_kernel, job);
    }
}

}  // namespace lrengine::cuda
