// out = W_out h + b + residual, h = activation(W_in y + b) or activation(W_gate y + b) * (W_in y + b), y = norm(x) or
// x.
//
// M <= 16: one launch of two halves (relay.cuh), the products of linear_few_rows.cuh in both: h goes through the
// second-level cache. The words of W_out that a block multiplies first, 2 KB a warp, a third of SWCM's, are asked for
// before the first half begins (of more than 4 rows: behind it), and come while blocks wait for each other.
// Bytes: the weights once, h written once and read once a block. SWCM, d = 768, F = 3,072, bfloat16: 9.4 MB, a floor of
// 2.2 us at 4.3 TB/s; Llama 3.2 1B, F = 8,192 with a gate: 101 MB, 23 us. One launch less than a launch for each half.
//
// Elsewhere normed_linear() or gated_linear(), then linear().
#include <algorithm>
#include <optional>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "cuda/relay.cuh"
#include "ops/few_rows_sinks.cuh"

namespace lrengine::cuda {

namespace {

struct FeedForwardJob {
    ProductList<2> in;  // W_in, or gate and W_in as a pair
    ProductList<1> out;
    RelayPlan relay;
    Activation activation;
};

template <DType kType, int kRows, typename Sink>
__device__ __forceinline__ void feed_forward(const FeedForwardJob& job, Sink& sink) {
    constexpr bool kEarly = kRows <= 4;  // registers for more words do not last beside the sums of more rows
    LRENGINE_DYNAMIC_SHARED(float, shared);
    LRENGINE_SHARED(int, claim, 1);
    StorePlainOutputs out_sink;
    Multiplier<kType, kRows, Sink, ProductList<2>> in(job.in, shared, sink);
    Multiplier<kType, kRows, StorePlainOutputs, ProductList<1>> out(job.out, shared, out_sink);
    const TileRange own{static_cast<int>(blockIdx.x), job.out.tiles, static_cast<int>(gridDim.x)};
    if constexpr (kEarly) out.start(own);  // comes while the claim is answered
    Relay relay(job.relay, claim);
    in.start({relay.part(), job.in.tiles, job.relay.parts});
    wait_for_previous_kernels();
    allow_next_kernel();
    while (relay.has_part()) {
        in.multiply();
        relay.next();
        if (relay.has_part()) in.start({relay.part(), job.in.tiles, job.relay.parts});
    }
    if constexpr (!kEarly) out.start(own);
    relay.wait();
    out.multiply();
    relay.end();
}

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    feed_forward_kernel(const __grid_constant__ FeedForwardJob job) {
    StoreOutputs sink;
    feed_forward<kType, kRows>(job, sink);
}

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    gated_feed_forward_kernel(const __grid_constant__ FeedForwardJob job) {
    StoreGated sink{job.in.items[1], job.activation};
    feed_forward<kType, kRows>(job, sink);
}

std::optional<FewRowsPlan> plan_in(const Device& device, const FeedForwardArgs& args) {
    if (args.gate.weight) {
        return plan_gated(
            device, {.norm = {}, .gate = args.gate, .up = args.in, .activation = args.activation, .out = args.out.x});
    }
    LinearArgs in = args.in;
    in.activation = args.activation;
    in.out = args.out.x;
    check_product(in);
    if (in.residual || !has_few_rows(in)) return std::nullopt;
    return plan_few_rows(device, std::span(&in, 1), true);
}

}  // namespace

void CudaBackend::feed_forward(const FeedForwardArgs& args) {
    check_product(args.out);
    std::optional<FewRowsPlan> in = plan_in(*device_, args);
    RelayCounters* counters = nullptr;
    if (in && has_few_rows(args.out) && args.in.weight.dtype == args.out.weight.dtype) counters = next_relay();
    if (counters == nullptr) return Backend::feed_forward(args);
    if (args.norm && !fuse_norm(*in, *args.norm)) norm(*args.norm);
    const FewRowsPlan out = plan_few_rows(*device_, std::span(&args.out, 1), true);
    const int warps = static_cast<int>(in->shape.block.x) / kWarp;
    const LaunchShape shape = shape_of_halves(*device_, out, in->products.tiles, warps, in->shape.shared_bytes);
    const FeedForwardJob job{shortened<2>(in->products),
                             shortened<1>(out.products),
                             {counters, std::min(in->products.tiles, static_cast<int>(shape.grid.x))},
                             args.activation};
    with_kernel(args.out.weight.dtype, out.rows, [&](auto weights, auto rows) {
        const auto kernel =
            args.gate.weight ? gated_feed_forward_kernel<weights(), rows()> : feed_forward_kernel<weights(), rows()>;
        launch_few_rows(queue_, shape, kernel, job);
    });
}

}  // namespace lrengine::cuda
