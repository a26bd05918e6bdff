// The k best of x W^T + bias and its log-sum-exp.
//
// M <= 16, k <= 32: each block multiplies a slice of the vocabulary (linear_few_rows.cuh), shows the logits in shared
// memory to the lists of its warps (candidates.cuh, a warp a row), and writes k candidates and one sum a row; a second
// kernel merges. Logits never reach memory.
// Bytes: W once. SWCM, 135,359 x 768: 208 MB in bfloat16, 48 us at 4.3 TB/s; int8 104 MB, 24 us. int4 in groups of 32
// 58 MB, 14 us. Partial results of k = 8, M = 4: 0.07 MB.
//
// More rows: the product of slices of the vocabulary goes to scratch, at most 64 MiB at a time, and is scanned there.
// More candidates: all logits of a group of rows go to scratch for top_k().
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "ops/linear_epilogue.cuh"
#include "ops/linear_few_rows.cuh"
#include "ops/select_plan.h"

namespace lrengine::cuda {

namespace {

constexpr int kTileOutputs = kMaxWarps * kOutputs;
constexpr int kTilesShown = 4;  // at a time: enough that the block's two barriers do not count
constexpr int kShown = kTilesShown * kTileOutputs;
constexpr std::int64_t kLogitBytes = 64 << 20;

// A sink of Multiplier: keeps what the block's logits come to. Warp w looks after rows w and w + 8.
template <int kRows>
class Chooser {
public:
    static constexpr bool kTakesNorm = false;
    static constexpr bool kTakesPair = false;

    __device__ Chooser(const Product& product, int k, int first_id, float* logits)
        : product_(product), k_(k), first_id_(first_id), logits_(logits) {
        for (ExpSum& sum : sums_) sum = ExpSum::of_nothing();
    }

    __device__ __forceinline__ void take(const Product&, int m, int n, float sum) {
        logits_[m * kShown + n - first_id_] = value_of(sum, product_.scales, product_.bias, n);
    }

    __device__ __forceinline__ void end_tile(int) {
        if (++tiles_ == kTilesShown) show();
    }

    // After the last tile.
    __device__ __forceinline__ void store(const Partials& partials) {
        if (tiles_ > 0) show();
        for_each_row([&](int i, int m) {
            sums_[i].add_lanes();
            partials.store(m, static_cast<int>(blockIdx.x), best_[i], sums_[i]);
        });
    }

private:
    static constexpr int kOwned = (kRows + kMaxWarps - 1) / kMaxWarps;

    // visit(i, m) for the rows of this warp.
    template <typename Visit>
    __device__ __forceinline__ void for_each_row(Visit visit) {
#pragma unroll
        for (int i = 0; i < kOwned; ++i) {
            const int m = static_cast<int>(threadIdx.x) / kWarp + i * kMaxWarps;
            if (m < product_.rows) visit(i, m);
        }
    }

    __device__ __forceinline__ void show() {
        const int written = tiles_ * kTileOutputs, known = product_.outputs - first_id_;
        const int count = written < known ? written : known, lane = static_cast<int>(threadIdx.x) % kWarp;
        __syncthreads();
        for_each_row([&](int i, int m) {
            for (int begin = 0; begin < count; begin += kWarp) {
                const int at = begin + lane;
                Candidate candidate = no_candidate();
                if (at < count) {
                    const float logit = logits_[m * kShown + at];
                    sums_[i].add(logit);
                    candidate = candidate_of(logit, first_id_ + at);
                }
                best_[i].show(candidate, k_);
            }
        });
        __syncthreads();
        first_id_ += written;
        tiles_ = 0;
    }

    const Product& product_;
    int k_;
    int first_id_;  // of the logits in shared memory
    float* logits_;
    int tiles_ = 0;  // in shared memory
    BestList best_[kOwned];
    ExpSum sums_[kOwned];
};

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    project_kernel(const __grid_constant__ Products products, Partials partials) {
    LRENGINE_DYNAMIC_SHARED(float, shared);
    const std::int64_t tiles = products.tiles;
    const int begin = static_cast<int>(tiles * blockIdx.x / gridDim.x);
    const int end = static_cast<int>(tiles * (blockIdx.x + 1) / gridDim.x);
    float* logits = shared + (products.stretch * per_chunk(kType) + 2 * kMaxWarps * kOutputs) * kRows;
    Chooser<kRows> chooser(products.items[0], partials.k, begin * kTileOutputs, logits);
    Multiplier<kType, kRows, Chooser<kRows>> multiplier(products, shared, chooser);
    multiplier.run({begin, end, 1});
    chooser.store(partials);
}

LinearArgs product_of(const ProjectTopKArgs& args, const Matrix& logits) {
    return {args.x, args.weight, args.bias, {}, logits, Activation::kNone};
}

// The product of a slice of the vocabulary, or of a group of rows.
LinearArgs slice_of(const ProjectTopKArgs& args, std::int64_t first, const Matrix& logits) {
    LinearArgs slice = product_of(args, logits);
    slice.weight = args.weight.slice(first, logits.cols);
    if (slice.bias) slice.bias = {args.bias.data + first, logits.cols};
    return slice;
}

Matrix logits_matrix(float* data, std::int64_t rows, std::int64_t cols) {
    return {data, DType::kFloat32, rows, cols, divide_up(cols, kPack) * kPack};
}

void launch_project(LaunchQueue& queue, DType weights, const FewRowsPlan& plan, const Partials& partials) {
    LaunchShape shape = plan.shape;
    shape.shared_bytes += sizeof(float) * kShown * static_cast<std::size_t>(plan.rows);
    with_kernel(weights, plan.rows, [&](auto type, auto rows) {
        launch_few_rows(queue, shape, project_kernel<type(), rows()>, plan.products, partials);
    });
}

// Each way counts its scratch without memory, and runs with it.

std::size_t fused(Device& device, LaunchQueue& queue, const ProjectTopKArgs& args, void* memory) {
    const LinearArgs product = product_of(args, {});
    const FewRowsPlan plan = plan_few_rows(device, std::span(&product, 1), false);
    Pieces pieces(memory);
    const Partials partials = take_partials(pieces, args.x.rows, args.k, plan.shape.grid.x);
    if (memory != nullptr) {
        launch_project(queue, args.weight.dtype, plan, partials);
        merge(queue, partials, args.values, args.ids, args.log_sum_exp);
    }
    return pieces.used();
}

std::size_t in_slices(Device& device, LaunchQueue& queue, const ProjectTopKArgs& args, void* memory) {
    constexpr std::int64_t kStep = 1024;
    const std::int64_t rows = args.x.rows, size = args.weight.rows;
    const std::int64_t width = std::min(size, std::max(kStep, kLogitBytes / 4 / rows / kStep * kStep));
    const int parts = parts_for(device, rows, width);
    Pieces pieces(memory);
    float* logits = pieces.take<float>(rows * divide_up(width, kPack) * kPack);
    const Partials partials = take_partials(pieces, rows, args.k, divide_up(size, width) * parts);
    std::size_t needed = 0;
    for (std::int64_t first = 0, part = 0; first < size; first += width, part += parts) {
        const Matrix slice = logits_matrix(logits, rows, std::min(width, size - first));
        const LinearArgs product = slice_of(args, first, slice);
        needed = std::max(needed, product_scratch(device, std::span(&product, 1)));
        if (memory == nullptr) continue;
        run_products(device, queue, std::span(&product, 1), static_cast<char*>(memory) + pieces.used());
        scan(queue, slice, static_cast<int>(first), partials, static_cast<int>(part), parts);
    }
    if (memory != nullptr) merge(queue, partials, args.values, args.ids, args.log_sum_exp);
    return pieces.used() + needed;
}

std::size_t in_row_groups(Device& device, LaunchQueue& queue, const ProjectTopKArgs& args, void* memory) {
    const std::int64_t rows = args.x.rows, size = args.weight.rows;
    const std::int64_t group = std::min(rows, std::max(kFewRows, kLogitBytes / 4 / size));
    Pieces pieces(memory);
    float* logits = pieces.take<float>(group * divide_up(size, kPack) * kPack);
    std::size_t needed = 0;
    for (std::int64_t m = 0; m < rows; m += group) {
        const std::int64_t count = std::min(group, rows - m);
        const Matrix all = logits_matrix(logits, count, size);
        LinearArgs product = product_of(args, all);
        product.x = args.x.slice(m, count);
        const TopKArgs choice{all, args.k, args.values.slice(m, count), args.ids + m * args.k,
                              args.log_sum_exp == nullptr ? nullptr : args.log_sum_exp + m};
        needed = std::max({needed, product_scratch(device, std::span(&product, 1)), top_k_scratch(device, choice)});
        if (memory == nullptr) continue;
        void* rest = static_cast<char*>(memory) + pieces.used();
        run_products(device, queue, std::span(&product, 1), rest);
        run_top_k(device, queue, choice, rest);
    }
    return pieces.used() + needed;
}

}  // namespace

void CudaBackend::project_top_k(const ProjectTopKArgs& args) {
    const std::int64_t rows = args.x.rows, size = args.weight.rows;
    check_product(product_of(args, {args.x.data, DType::kFloat32, rows, size, size}));
    expect(args.k >= 1 && args.k <= size, "project_top_k: k is not in 1 .. V");
    expect(has_shape(args.values, rows, args.k), "project_top_k: values are not [M, k]");
    if (rows == 0) return;
    const bool few = has_few_rows(product_of(args, {}));
    const auto way = args.k > kMaxListed ? in_row_groups : few ? fused : in_slices;
    way(*device_, queue_, args, scratch(way(*device_, queue_, args, nullptr)));
}

}  // namespace lrengine::cuda
