// linear(): which product goes which way.
//
// M <= 16: linear_few_rows.cuh, all products of a call in one launch; normed_linear() adds the norm before them. SWCM,
// d = 768, bfloat16, at 4.3 TB/s: q, k and v 3.5 MB, 0.83 us; an output projection 1.2 MB, 0.28 us; a feed-forward half
// 4.7 MB, 1.1 us.
// M > 16: the matrix library (linear_many_rows_cuda.cu). Weights whose rows are not whole 16-byte words: a kernel that
// is only right.
#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "cuda/weights.cuh"
#include "ops/few_rows_sinks.cuh"
#include "ops/linear_epilogue.cuh"

namespace lrengine::cuda {

namespace {

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    few_rows_kernel(const __grid_constant__ Products products) {
    LRENGINE_DYNAMIC_SHARED(float, shared);
    StoreOutputs sink;
    Multiplier<kType, kRows, StoreOutputs> multiplier(products, shared, sink);
    multiplier.run({static_cast<int>(blockIdx.x), products.tiles, static_cast<int>(gridDim.x)});
}

// Any alignment: a warp an element of out, single loads. Models have no such weights.
__global__ void __launch_bounds__(kMaxWarps* kWarp)
    unpacked_kernel(MatrixView x, WeightView weight, std::int64_t rows, std::int64_t outputs, Epilogue epilogue) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kMaxWarps + threadIdx.x / kWarp;
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    if (warp >= rows * outputs) return;
    const std::int64_t m = warp / outputs, n = warp % outputs;
    float sum = 0.0f;
    for (std::int64_t k = lane; k < weight.cols; k += kWarp) sum = fmaf(load(x, m, k), load_stored(weight, n, k), sum);
    sum = warp_sum(sum);
    if (lane == 0) finish_output(epilogue, m, n, sum);
}

void run_unpacked(LaunchQueue& queue, const LinearArgs& args) {
    const std::int64_t blocks = divide_up(args.x.rows * args.weight.rows, kMaxWarps);
    const WeightView weight = view_of(args.weight);
    const Epilogue epilogue{weight.scales, args.bias.data, view_of(args.residual), view_of(args.out), args.activation};
    launch(queue, {dim3(static_cast<unsigned>(blocks)), dim3(kMaxWarps * kWarp)}, unpacked_kernel, view_of(args.x),
           weight, args.x.rows, args.weight.rows, epilogue);
}

enum class Way { kNone, kUnpacked, kFewRows, kManyRows };

Way way_of(const LinearArgs& args) {
    if (args.x.rows == 0 || args.weight.rows == 0) return Way::kNone;
    if (has_few_rows(args)) return Way::kFewRows;
    return args.weight.cols == 0 || !is_packed(args.weight) ? Way::kUnpacked : Way::kManyRows;
}

}  // namespace

void check_product(const LinearArgs& args) {
    const std::int64_t rows = args.x.rows, outputs = args.weight.rows;
    expect(args.weight && has_shape(args.x, rows, args.weight.cols), "linear: x is not [M, K]");
    expect(has_shape(args.out, rows, outputs), "linear: out is not [M, N]");
    expect(!args.bias || args.bias.size == outputs, "linear: bias is not [N]");
    expect(!args.residual || has_shape(args.residual, rows, outputs), "linear: residual is not [M, N]");
    if (args.weight.dtype == DType::kInt8) {
        expect(args.weight.scales != nullptr, "linear: int8 weight without scales");
    } else if (args.weight.dtype == DType::kInt4) {
        expect(args.weight.group_scales != nullptr, "linear: int4 weight without scales");
        expect(args.weight.cols % kInt4Block == 0 && is_group_size(args.weight.group_size),
               "linear: int4 weight that is not in whole blocks and groups");
    } else {
        expect(is_float(args.weight.dtype), "linear: a weight of this type");
    }
}

namespace {

// Products of many rows, those together that can be joined.
std::vector<std::vector<LinearArgs>> many_rows_of(Device& device, std::span<const LinearArgs> products) {
    std::vector<std::vector<LinearArgs>> all;
    for (const LinearArgs& args : products) {
        if (way_of(args) != Way::kManyRows) continue;
        const auto before = std::find_if(all.begin(), all.end(),
                                         [&](const auto& parts) { return can_join(device, parts.back(), args); });
        before == all.end() ? all.push_back({args}) : before->push_back(args);
    }
    return all;
}

}  // namespace

std::size_t product_scratch(Device& device, std::span<const LinearArgs> products) {
    std::size_t bytes = 0;
    for (const auto& parts : many_rows_of(device, products)) bytes = std::max(bytes, many_rows_scratch(device, parts));
    return bytes;
}

void run_products(Device& device, LaunchQueue& queue, std::span<const LinearArgs> products, void* scratch) {
    constexpr std::array kTypes = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kInt8, DType::kInt4};
    std::array<std::vector<LinearArgs>, kTypes.size()> few;
    for (const LinearArgs& args : products) {
        const Way way = way_of(args);
        if (way == Way::kUnpacked) run_unpacked(queue, args);
        if (way != Way::kFewRows) continue;
        const auto type = std::find(kTypes.begin(), kTypes.end(), args.weight.dtype) - kTypes.begin();
        few[static_cast<std::size_t>(type)].push_back(args);
    }
    for (const auto& parts : many_rows_of(device, products)) run_many_rows(device, queue, parts, scratch);
    for (std::size_t type = 0; type < kTypes.size(); ++type) {
        for (std::span<const LinearArgs> rest(few[type]); !rest.empty();) {
            const std::size_t count = std::min<std::size_t>(rest.size(), kMaxProducts);
            run_few_rows(queue, kTypes[type], plan_few_rows(device, rest.first(count), true));
            rest = rest.subspan(count);
        }
    }
}

std::optional<FewRowsPlan> plan_together(const Device& device, const std::optional<NormArgs>& norm,
                                         std::span<const LinearArgs> products) {
    if (products.empty() || products.size() > kMaxProducts) return std::nullopt;
    for (const LinearArgs& product : products) {
        check_product(product);
        const bool alike = product.weight.dtype == products.front().weight.dtype;
        if (!alike || !has_few_rows(product)) return std::nullopt;
    }
    FewRowsPlan plan = plan_few_rows(device, products, true);
    if (norm && !fuse_norm(plan, *norm)) return std::nullopt;
    return plan;
}

void run_few_rows(LaunchQueue& queue, DType type, const FewRowsPlan& plan) {
    with_kernel(type, plan.rows, [&](auto weights, auto rows) {
        launch_few_rows(queue, plan.shape, few_rows_kernel<weights(), rows()>, plan.products);
    });
}

void CudaBackend::linear(std::span<const LinearArgs> products) {
    for (const LinearArgs& args : products) check_product(args);
    const std::size_t bytes = product_scratch(*device_, products);
    run_products(*device_, queue_, products, bytes == 0 ? nullptr : scratch(bytes));
}

void CudaBackend::normed_linear(const NormedLinearArgs& args) {
    const std::optional<FewRowsPlan> plan = plan_together(*device_, args.norm, args.products);
    if (!plan) return Backend::normed_linear(args);
    run_few_rows(queue_, args.products.front().weight.dtype, *plan);
}

}  // namespace lrengine::cuda
