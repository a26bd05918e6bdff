// Tokens drawn from rows of scores: temperature, top_k and top_p, exactly, over the whole vocabulary.
//
// Five launches and a top_k(): the range of each row (a quotient may overflow), its scores divided by the temperature,
// the best of them in order, the probability mass of stretches of the row, and the draw, a block a row, which looks
// into one stretch, or, with top_p, at the sorted candidates. Where these do not hold top_p of the mass, the draw
// searches the row by halving the range of its scores, a pass over the row each time. Probabilities are float64 as on
// the host; sums are in another order: a token differs where the number drawn is within 1e-13 of an edge. Bytes: 5 M V
// floats, of which all but the first come from L2: V = 135,359, 0.54 MB, 0.6 us at 4.3 TB/s; the launches and 4096-key
// sorts are what takes time, and for a flat distribution the halving: up to 70 passes of one block.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/sampling.cuh"
#include "ops/select_plan.h"

namespace lrengine::cuda {

namespace {

// Most stretches of a row: the draw adds up their masses one after the other.
constexpr std::int64_t kMostParts = 64;

__device__ __forceinline__ int begin_of(const SampleJob& job, int part) {
    return static_cast<int>(static_cast<std::int64_t>(job.size) * part / job.parts);
}

// Grid: rows, stretches. The largest score, and the one farthest from zero, of those that are finite.
__global__ void __launch_bounds__(kSampleThreads) range_kernel(SampleJob job) {
    LRENGINE_SHARED(float, partial, kWarp);
    wait_for_previous_kernels();
    allow_next_kernel();
    const int row = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
    float largest = -FLT_MAX, farthest = 0.0f;
    for (int i = begin_of(job, part) + static_cast<int>(threadIdx.x); i < begin_of(job, part + 1);
         i += kSampleThreads) {
        const float score = job.row(row)[i];
        if (!is_finite(score)) continue;
        largest = fmaxf(largest, score);
        farthest = fmaxf(farthest, fabsf(score));
    }
    largest = block_max(largest, partial);
    farthest = block_max(farthest, partial);
    if (threadIdx.x == 0) job.ranges[row * job.parts + part] = {largest, farthest};
}

// Grid: rows, stretches.
__global__ void __launch_bounds__(kSampleThreads) divide_kernel(SampleJob job) {
    LRENGINE_SHARED(float, partial, kWarp);
    wait_for_previous_kernels();
    allow_next_kernel();
    const int row = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
    ScoreRange range{-FLT_MAX, 0.0f};
    if (static_cast<int>(threadIdx.x) < job.parts) range = job.ranges[row * job.parts + static_cast<int>(threadIdx.x)];
    const float largest = block_max(range.largest, partial), farthest = block_max(range.farthest, partial);
    const float shift = is_finite(farthest / job.temperature) ? 0.0f : largest;
    for (int i = begin_of(job, part) + static_cast<int>(threadIdx.x); i < begin_of(job, part + 1);
         i += kSampleThreads) {
        float& score = job.row(row)[i];
        if (is_finite(score)) score = fminf(fmaxf((score - shift) / job.temperature, -FLT_MAX), FLT_MAX);
    }
}

// Grid: rows, stretches.
__global__ void __launch_bounds__(kSampleThreads) mass_kernel(SampleJob job) {
    LRENGINE_SHARED(double, sums, kSampleThreads);
    wait_for_previous_kernels();
    allow_next_kernel();
    const int row = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
    const SampledRow scores(job, row);
    double mine = 0.0;
    for (int i = begin_of(job, part) + static_cast<int>(threadIdx.x); i < begin_of(job, part + 1);
         i += kSampleThreads) {
        mine += scores.mass(i);
    }
    const double mass = block_total(mine, sums);
    if (threadIdx.x == 0) job.masses[row * job.parts + part] = mass;
}

// A block a row.
__global__ void __launch_bounds__(kSampleThreads) draw_kernel(SampleJob job) {
    LRENGINE_SHARED(double, sums, kSampleThreads);
    wait_for_previous_kernels();
    allow_next_kernel();
    const int row = static_cast<int>(blockIdx.x);
    const SampledRow scores(job, row);
    const double* masses = job.masses + row * job.parts;
    const std::uint64_t* stream = job.streams + 2 * static_cast<std::int64_t>(row);
    const double uniform = uniform_number(stream[0], stream[1], static_cast<unsigned>(job.generated[row]), 0);
    double total = 0.0;
    for (int part = 0; part < job.parts; ++part) total += masses[part];
    int chosen = 0;
    if (job.top_p < 1.0) {
        chosen = draw_likely(scores, uniform, job.top_p * total, sums);
    } else {
        const MassSearch part = find_mass(job.parts, uniform * total, sums, [&](int i) { return masses[i]; });
        const int begin = begin_of(job, part.index), end = begin_of(job, part.index + 1);
        const double left = uniform * total - part.before;
        chosen = begin + find_mass(end - begin, left, sums, [&](int i) { return scores.mass(begin + i); }).index;
    }
    if (threadIdx.x == 0) job.ids[row] = chosen;
}

// Candidates that are sorted.
std::int64_t sorted_count(const SampleTokensArgs& args) {
    const std::int64_t size = args.scores.cols;
    if (args.top_k > 0 && args.top_k < size) return args.top_k;
    return args.top_p < 1.0 ? std::min(args.sorted, size) : 1;
}

}  // namespace

void CudaBackend::sample_tokens(const SampleTokensArgs& args) {
    const std::int64_t rows = args.scores.rows, size = args.scores.cols;
    expect(args.scores.dtype == DType::kFloat32 && has_shape(args.scores, rows, size),
           "sample_tokens: scores are not float32 [M, V]");
    expect(args.sorted >= 1, "sample_tokens: no candidates to sort");
    if (rows == 0) return;
    const std::int64_t k = sorted_count(args);
    const int parts = static_cast<int>(std::min<std::int64_t>(parts_for(*device_, rows, size), kMostParts));
    TopKArgs best{.logits = args.scores, .k = k, .values = {nullptr, DType::kFloat32, rows, k, k}};
    const auto plan = [&](void* memory) {
        Pieces pieces(memory);
        SampleJob job{.scores = static_cast<float*>(args.scores.data),
                      .stride = args.scores.stride,
                      .size = static_cast<int>(size),
                      .temperature = args.temperature,
                      .filters_k = args.top_k > 0 && args.top_k < size,
                      .top_p = args.top_p,
                      .streams = args.streams,
                      .generated = args.generated,
                      .ids = args.ids,
                      .parts = parts,
                      .ranges = pieces.take<ScoreRange>(rows * parts),
                      .masses = pieces.take<double>(rows * parts),
                      .sorted = pieces.take<float>(rows * k),
                      .sorted_ids = pieces.take<std::int32_t>(rows * k),
                      .sorted_count = static_cast<int>(k)};
        return std::pair(job, pieces.used());
    };
    const std::size_t own = plan(nullptr).second;
    char* memory = static_cast<char*>(scratch(own + top_k_scratch(*device_, best)));
    const SampleJob job = plan(memory).first;
    best.values.data = job.sorted;
    best.ids = job.sorted_ids;

    const LaunchShape whole{dim3(static_cast<unsigned>(rows), static_cast<unsigned>(parts)), dim3(kSampleThreads)};
    launch(queue_, whole, range_kernel, job);
    launch(queue_, whole, divide_kernel, job);
    run_top_k(*device_, queue_, best, memory + own);
    launch(queue_, whole, mass_kernel, job);
    launch(queue_, {dim3(static_cast<unsigned>(rows)), dim3(kSampleThreads)}, draw_kernel, job);
}

}  // namespace lrengine::cuda
