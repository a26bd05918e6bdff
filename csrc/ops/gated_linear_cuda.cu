// out = activation(x Wg^T + bg) * (x Wu^T + bu), of the norm of x where there is one.
//
// M <= 16: one launch (linear_few_rows.cuh, a pair of products): the sums of both for an output meet in one thread, and
// what gated() would read never reaches memory.
// Bytes: both weights, M F of out. Llama 3.2 1B, d = 2,048, F = 8,192, bfloat16: 67 MB, a floor of 15.6 us at 4.3 TB/s;
// one row spared 64 KiB to and from memory, and a launch. More rows: linear() of both, then gated().
#include <optional>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "ops/few_rows_sinks.cuh"

namespace lrengine::cuda {

namespace {

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    gated_linear_kernel(const __grid_constant__ Products pair, Activation activation) {
    LRENGINE_DYNAMIC_SHARED(float, shared);
    StoreGated sink{pair.items[1], activation};
    Multiplier<kType, kRows, StoreGated> multiplier(pair, shared, sink);
    multiplier.run({static_cast<int>(blockIdx.x), pair.tiles, static_cast<int>(gridDim.x)});
}

bool is_plain(const LinearArgs& args) { return !args.residual && args.activation == Activation::kNone; }

bool is_pair(const GatedLinearArgs& args) {
    const Matrix &x = args.gate.x, &other = args.up.x;
    const bool one_x = x.data == other.data && x.stride == other.stride && x.dtype == other.dtype;
    return one_x && args.out.data != x.data && args.gate.weight.dtype == args.up.weight.dtype && is_plain(args.gate) &&
           is_plain(args.up) && has_few_rows(args.gate) && has_few_rows(args.up);
}

}  // namespace

std::optional<FewRowsPlan> plan_gated(const Device& device, const GatedLinearArgs& args) {
    check_product(args.gate);
    check_product(args.up);
    const std::int64_t rows = args.out.rows, outputs = args.out.cols;
    expect(has_shape(args.gate.out, rows, outputs) && has_shape(args.up.out, rows, outputs) &&
               has_shape(args.out, rows, outputs),
           "gated: gate, up and out are not all [M, F]");
    if (!is_pair(args)) return std::nullopt;
    LinearArgs gate = args.gate;
    gate.out = args.out;
    return plan_pair(device, gate, args.up);
}

void CudaBackend::gated_linear(const GatedLinearArgs& args) {
    std::optional<FewRowsPlan> plan = plan_gated(*device_, args);
    if (!plan) return Backend::gated_linear(args);
    if (args.norm && !fuse_norm(*plan, *args.norm)) norm(*args.norm);
    with_kernel(args.gate.weight.dtype, plan->rows, [&](auto weights, auto rows) {
        launch_few_rows(queue_, plan->shape, gated_linear_kernel<weights(), rows()>, plan->products, args.activation);
    });
}

}  // namespace lrengine::cuda
