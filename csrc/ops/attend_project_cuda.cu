// out = W_o a + b + residual, a = softmax(scale q . k_t) v over the cached keys t of one query a row.
//
// M <= 16: one launch of two halves (relay.cuh): the attention of cached_attention.cuh in items that blocks claim, then
// the product of linear_few_rows.cuh. Each block asks for its first words of W_o before anything else (with grouped
// queries before it waits for the others), at one row of SWCM all that it will multiply, so that reading W_o costs next
// to no time beside the attention.
// A head's keys are shared out as long as blocks are idle; the shares of a query go to memory as they are, and every
// block merges them while it brings x to shared memory: no launch to merge.
// Bytes: W_o once, keys and values as in cached_attention_cuda.cu, and for each block what it reads of the first half
// from the second-level cache: M H d elements, or with shares M H shares (d + 2) floats, at most 24 KB. SWCM, bfloat16,
// 256 keys: 1.9 MB, a floor of 0.45 us at 4.3 TB/s. One launch less than a launch for each half, two where keys are
// shared out.
//
// Many keys for few warps, other types than models have, more rows: cached_attention(), then linear().
#include <algorithm>
#include <optional>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "cuda/relay.cuh"
#include "ops/cached_attention.cuh"
#include "ops/few_rows_sinks.cuh"

namespace lrengine::cuda {

namespace {

// Steps of a block over an item's keys, each a latency of the memory. With more, blocks of more warps are worth a
// launch.
constexpr std::int64_t kMostSteps = 8, kFewSteps = 2;
// Of shares, that every block reads.
constexpr std::int64_t kMostShareBytes = 24 * 1024;

// The type of keys and values beside weights of a type.
template <DType kType>
constexpr Elements kCacheElements = kType == DType::kFloat32   ? Elements::kFloat32
                                    : kType == DType::kFloat16 ? Elements::kFloat16
                                                               : Elements::kBFloat16;

struct AttendProjectJob {
    CachedAttentionJob attention;
    ProductList<1> out;
    RelayPlan relay;
    int kv_heads;
    int factors;  // where shared memory has room for a factor for each query and share, behind what the product needs
};

// x of the product is what the shares of each query merge to.
struct ProjectHeads : StorePlainOutputs {
    const CachedAttentionJob& attention;
    float* factors;

    // What a share's sum of values counts in the result: exp(largest - largest of all) over the sum of all weights.
    __device__ __forceinline__ void weigh_shares(int rows) const {
        const int stride = attention.head_dim + 2, shares = attention.shares;
        for (int query = static_cast<int>(threadIdx.x); query < rows * attention.heads;
             query += static_cast<int>(blockDim.x)) {
            const float* parts = attention.partial + static_cast<std::int64_t>(query) * shares * stride;
            float* mine = factors + query * shares;
            float largest = -INFINITY, sum = 0.0f;
            for (int s = 0; s < shares; ++s) largest = fmaxf(largest, parts[s * stride]);
            for (int s = 0; s < shares; ++s) {
                mine[s] = relative_weight(parts[s * stride], largest);
                sum += mine[s] * parts[s * stride + 1];
            }
            for (int s = 0; s < shares; ++s) mine[s] = sum == 0.0f ? 0.0f : mine[s] / sum;
        }
    }

    template <DType kType, int kRows>
    __device__ __forceinline__ void stage(const Product& product, int first, int length, float* staged, float*) const {
        if (attention.shares == 1) {
            return lrengine::cuda::stage<kType, kRows>(product.x, product.rows, product.cols, first, length, staged);
        }
        weigh_shares(product.rows);
        __syncthreads();
        const int head_dim = attention.head_dim, shares = attention.shares;
        for (int i = static_cast<int>(threadIdx.x); i < kRows * length; i += static_cast<int>(blockDim.x)) {
            const int m = i / length, k = i - m * length, col = first + k;
            float value = 0.0f;
            if (m < product.rows && col < product.cols) {
                const int head = col / head_dim, query = m * attention.heads + head;
                const float* part = attention.partial + static_cast<std::int64_t>(query) * shares * (head_dim + 2);
                const float* own = part + 2 + col - head * head_dim;
#pragma unroll 4
                for (int s = 0; s < shares; ++s)
                    value = fmaf(factors[query * shares + s], own[s * (head_dim + 2)], value);
            }
            staged[m * length + place_of<kType>(k)] = value;
        }
    }
};

// Items are counted with the shares of a head side by side, then the key heads of a row.
__device__ __forceinline__ AttentionItem item_of(const AttendProjectJob& job, int part) {
    const CachedAttentionJob& attention = job.attention;
    const int share = part % attention.shares, heads = part / attention.shares, queries = heads / job.kv_heads;
    return {queries / attention.group_blocks, queries % attention.group_blocks, heads % job.kv_heads, share};
}

template <DType kType, int kRows, int kGroup>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    attend_project_kernel(const __grid_constant__ AttendProjectJob job) {
    constexpr bool kEarly = kGroup == 1;  // registers for the words do not last beside the queries of a group
    LRENGINE_DYNAMIC_SHARED(float, shared);
    LRENGINE_SHARED(int, claim, 1);
    ProjectHeads sink{{}, job.attention, shared + job.factors};
    Multiplier<kType, kRows, ProjectHeads, ProductList<1>> out(job.out, shared, sink);
    const TileRange own{static_cast<int>(blockIdx.x), job.out.tiles, static_cast<int>(gridDim.x)};
    if constexpr (kEarly) out.start(own);
    Relay relay(job.relay, claim);
    const int thread = static_cast<int>(threadIdx.x);
    const AttentionThread place{thread % kWarp, thread / kWarp, static_cast<int>(blockDim.x) / kWarp};
    wait_for_previous_kernels();
    allow_next_kernel();
    for (; relay.has_part(); relay.next()) {
        attend<kCacheElements<kType>, kGroup>(job.attention, item_of(job, relay.part()), place, shared);
    }
    if constexpr (!kEarly) out.start(own);
    relay.wait();
    out.multiply();
    relay.end();
}

bool is_read_by(const Matrix& heads, const LinearArgs& product) {
    const Matrix& x = product.x;
    return x.data == heads.data && x.dtype == heads.dtype && x.rows == heads.rows && x.stride == heads.stride;
}

bool has_kernel(const AttendProjectArgs& args) {
    if (!has_few_rows(args.out) || !is_read_by(args.attention.out, args.out)) return false;
    bool same = false;
    with_kernel(args.out.weight.dtype, 1,
                [&](auto weights, auto) { same = common_elements_of(args.attention) == kCacheElements<weights()>; });
    return same;
}

// How a launch for this product shares out the attention; null where one of its own is better.
std::optional<AttentionPartition> partition_of(const Device& device, const CachedAttentionArgs& args, int warps) {
    const std::int64_t rows = args.q.rows, group = args.heads / args.kv_heads;
    AttentionPartition partition{group == 1 ? 1 : kMaxGroup, warps, 1};
    const std::int64_t keys = keys_per_warp(args, common_elements_of(args));
    const std::int64_t items = rows * args.kv_heads * divide_up(group, partition.group);
    const std::int64_t share_bytes = rows * args.heads * (args.head_dim + 2) * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t room = std::min({device.processors() / items, kMostShareBytes / share_bytes, kMaxShares});
    partition.shares = static_cast<int>(
        std::clamp<std::int64_t>(divide_up(most_keys(args), keys * warps), 1, std::max<std::int64_t>(room, 1)));
    // What a cache without a capacity holds is shared by the rows, as far as one can tell here.
    const bool known = args.longest > 0 || args.capacity > 0;
    const std::int64_t expected = known ? most_keys(args) : divide_up(args.k.rows, rows);
    const auto steps = [&](int each) { return divide_up(expected, keys * each * partition.shares); };
    if (steps(warps) > kFewSteps) partition.warps = kMaxWarps;
    if (steps(partition.warps) > kMostSteps) return std::nullopt;
    return partition;
}

}  // namespace

void CudaBackend::attend_project(const AttendProjectArgs& args) {
    check_cached_attention(args.attention);
    check_product(args.out);
    RelayCounters* counters = has_kernel(args) ? next_relay() : nullptr;
    if (counters == nullptr) return Backend::attend_project(args);
    const FewRowsPlan out = plan_few_rows(*device_, std::span(&args.out, 1), true);
    const auto partition = partition_of(*device_, args.attention, static_cast<int>(out.shape.block.x) / kWarp);
    if (!partition) return Backend::attend_project(args);
    CachedAttentionJob attention = job_of(args.attention, *partition);
    const std::int64_t rows = args.out.x.rows;
    FewRowsPlan whole = out;
    if (partition->shares > 1) {
        attention.partial =
            static_cast<float*>(scratch(static_cast<std::size_t>(partial_floats(attention, rows)) * sizeof(float)));
        whole.shape.shared_bytes += static_cast<std::size_t>(rows * attention.heads * attention.shares) * sizeof(float);
    }
    const int parts = static_cast<int>(rows * attention.group_blocks * args.attention.kv_heads) * attention.shares;
    const std::size_t merge_bytes =
        merge_floats(partition->warps, partition->group, attention.head_dim) * sizeof(float);
    const LaunchShape shape = shape_of_halves(*device_, whole, parts, partition->warps, merge_bytes);
    const AttendProjectJob job{attention,
                               shortened<1>(out.products),
                               {counters, parts},
                               static_cast<int>(args.attention.kv_heads),
                               static_cast<int>(out.shape.shared_bytes / sizeof(float))};
    with_kernel(args.out.weight.dtype, out.rows, [&](auto weights, auto bucket) {
        const auto kernel = partition->group == 1 ? attend_project_kernel<weights(), bucket(), 1>
                                                  : attend_project_kernel<weights(), bucket(), kMaxGroup>;
        launch_few_rows(queue_, shape, kernel, job);
    });
}

}  // namespace lrengine::cuda
