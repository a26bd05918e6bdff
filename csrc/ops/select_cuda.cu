// top_k() over given logits, and token_log_prob().
//
// k <= 32: blocks go through stretches of the rows, each warp with a list of the best k so far (a lane a candidate) and
// a running log-sum-exp; a second kernel merges. Larger k: select_sort_cuda.cu. Bytes: the logits once; M x 135,359
// float32 are M x 0.54 MB, 0.13 us a row at 4.3 TB/s. token_log_prob() likewise.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/device.cuh"
#include "ops/select_plan.h"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

// Columns [begin, end) of a row, to visit(column, logit) of every lane of the block, 4 loads in flight: whole warps
// call, with column >= end and -inf where there is none.
template <typename Visit>
__device__ __forceinline__ void for_each_logit(const MatrixView& logits, std::int64_t row, int begin, int end,
                                               Visit visit) {
    constexpr int kAtOnce = 4;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int step = static_cast<int>(blockDim.x);
    for (int first = begin + warp * kWarp; first < end; first += kAtOnce * step) {
        float values[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int col = first + i * step + lane;
            values[i] = col < end ? load(logits, row, col) : minus_infinity();
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) visit(first + i * step + lane, values[i]);
    }
}

// The warps' lists and sums become the first warp's.
__device__ __forceinline__ void gather_warps(BestList& best, ExpSum& sum, int k) {
    LRENGINE_SHARED(Candidate, listed, kWarps * kWarp);
    LRENGINE_SHARED(ExpSum, sums, kWarps);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    sum.add_lanes();
    listed[threadIdx.x] = best.mine();
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (warp != 0) return;
    for (int other = 1; other < kWarps; ++other) {
        best.show(lane < k ? listed[other * kWarp + lane] : no_candidate(), k);
        sum.add(sums[other]);
    }
}

// Grid: rows, parts.
__global__ void __launch_bounds__(kThreads)
    scan_kernel(MatrixView logits, int size, int first_id, Partials partials, int first_part) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x, part = blockIdx.y, parts = gridDim.y;
    const int begin = static_cast<int>(size * part / parts), end = static_cast<int>(size * (part + 1) / parts);
    BestList best;
    ExpSum sum = ExpSum::of_nothing();
    for_each_logit(logits, row, begin, end, [&](int col, float logit) {
        if (col < end) sum.add(logit);
        best.show(col < end ? candidate_of(logit, first_id + col) : no_candidate(), partials.k);
    });
    gather_warps(best, sum, partials.k);
    if (threadIdx.x < kWarp) partials.store(row, first_part + static_cast<int>(part), best, sum);
}

// A block a row.
__global__ void __launch_bounds__(kThreads)
    merge_kernel(Partials partials, MatrixView values, std::int32_t* ids, float* log_sum_exp) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x, first = partials.index(row, 0, 0);
    const int count = partials.k * partials.parts, lane = static_cast<int>(threadIdx.x) % kWarp;
    BestList best;
    ExpSum sum = ExpSum::of_nothing();
    for (int begin = static_cast<int>(threadIdx.x) - lane; begin < count; begin += kThreads) {
        const int i = begin + lane;
        best.show(i < count ? Candidate{partials.values[first + i], partials.ids[first + i]} : no_candidate(),
                  partials.k);
    }
    for (int part = static_cast<int>(threadIdx.x); part < partials.parts; part += kThreads) {
        sum.add(partials.sums[row * partials.parts + part]);
    }
    gather_warps(best, sum, partials.k);
    if (static_cast<int>(threadIdx.x) < partials.k) {
        store(values, row, lane, best.mine().value);
        ids[row * partials.k + lane] = best.mine().id;
    }
    if (threadIdx.x == 0 && log_sum_exp != nullptr) log_sum_exp[row] = sum.log();
}

// A block a row.
__global__ void __launch_bounds__(kThreads)
    log_prob_kernel(MatrixView logits, int size, const std::int32_t* ids, float* log_probs) {
    LRENGINE_SHARED(ExpSum, sums, kWarps);
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x;
    ExpSum sum = ExpSum::of_nothing();
    for_each_logit(logits, row, 0, size, [&](int col, float logit) {
        if (col < size) sum.add(logit);
    });
    sum.add_lanes();
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int warp = 1; warp < kWarps; ++warp) sum.add(sums[warp]);
    const int id = ids[row];
    // Callers have checked the ids; one outside must still not read elsewhere.
    const bool inside = id >= 0 && id < size;
    log_probs[row] = inside ? candidate_of(load(logits, row, id), id).value - sum.log() : __int_as_float(0x7fc00000);
}

}  // namespace

Partials take_partials(Pieces& pieces, std::int64_t rows, std::int64_t k, std::int64_t parts) {
    return {pieces.take<float>(rows * k * parts), pieces.take<int>(rows * k * parts), pieces.take<ExpSum>(rows * parts),
            static_cast<int>(k), static_cast<int>(parts)};
}

int parts_for(const Device& device, std::int64_t rows, std::int64_t size) {
    constexpr std::int64_t kWorthABlock = 2048;
    const std::int64_t wanted = divide_up(2 * device.processors(), std::max<std::int64_t>(rows, 1));
    return static_cast<int>(std::min(wanted, divide_up(size, kWorthABlock)));
}

void scan(LaunchQueue& queue, const Matrix& logits, int first_id, const Partials& partials, int first_part, int parts) {
    const dim3 grid(static_cast<unsigned>(logits.rows), static_cast<unsigned>(parts));
    launch(queue, {grid, dim3(kThreads)}, scan_kernel, view_of(logits), static_cast<int>(logits.cols), first_id,
           partials, first_part);
}

void merge(LaunchQueue& queue, const Partials& partials, const Matrix& values, std::int32_t* ids, float* log_sum_exp) {
    launch(queue, {dim3(static_cast<unsigned>(values.rows)), dim3(kThreads)}, merge_kernel, partials, view_of(values),
           ids, log_sum_exp);
}

std::size_t top_k_scratch(const Device& device, const TopKArgs& args) {
    Pieces pieces;
    const std::int64_t rows = args.logits.rows;
    take_partials(pieces, rows, std::min<std::int64_t>(args.k, kMaxListed), parts_for(device, rows, args.logits.cols));
    pieces.take<float>(rows);
    pieces.take<std::int32_t>(rows);
    return args.k <= kMaxListed ? pieces.used() : std::max(pieces.used(), sort_scratch(args));
}

void run_top_k(const Device& device, LaunchQueue& queue, const TopKArgs& args, void* scratch) {
    const std::int64_t rows = args.logits.rows;
    const bool sorts = args.k > kMaxListed;
    if (sorts) run_sort(queue, args, scratch);
    if (sorts && args.log_sum_exp == nullptr) return;
    Pieces pieces(scratch);
    const int parts = parts_for(device, rows, args.logits.cols);
    const Partials partials = take_partials(pieces, rows, sorts ? 1 : args.k, parts);
    scan(queue, args.logits, 0, partials, 0, parts);
    const Matrix unused{pieces.take<float>(rows), DType::kFloat32, rows, 1, 1};  // the sums alone are wanted
    merge(queue, partials, sorts ? unused : args.values, sorts ? pieces.take<std::int32_t>(rows) : args.ids,
          args.log_sum_exp);
}

void CudaBackend::top_k(const TopKArgs& args) {
    const std::int64_t rows = args.logits.rows, size = args.logits.cols;
    expect(has_shape(args.logits, rows, size), "top_k: logits are not [M, V]");
    expect(args.k >= 1 && args.k <= size, "top_k: k is not in 1 .. V");
    expect(has_shape(args.values, rows, args.k), "top_k: values are not [M, k]");
    if (rows == 0) return;
    run_top_k(*device_, queue_, args, scratch(top_k_scratch(*device_, args)));
}

void CudaBackend::token_log_prob(const TokenLogProbArgs& args) {
    const std::int64_t rows = args.logits.rows, size = args.logits.cols;
    expect(has_shape(args.logits, rows, size), "token_log_prob: logits are not [M, V]");
    launch(queue_, {dim3(static_cast<unsigned>(rows)), dim3(kThreads)}, log_prob_kernel, view_of(args.logits),
           static_cast<int>(size), args.ids, args.log_probs);
}

}  // namespace lrengine::cuda
