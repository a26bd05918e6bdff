// The beams of every source are chosen from its rows' candidates, and histories follow them.
//
// A block a source. Candidates lie in shared memory and are ranked by counting those before each: B k <= 1024 of them,
// and no order of threads matters. A position's slots are read for all beams before any is written, by one thread.
// Bytes: 8 B k of candidates and 8 B length of history a source, 16 C over the bus to the host's memory: B = 4, k = 9,
// 256 positions: 8.5 KB, the time of a launch and four barriers.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/candidates.cuh"
#include "ops/take_beams.h"
#include "ops/take_tokens.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 128;
constexpr float kBarred = -1.0e9f;  // transformers' penalty for beams that must not go on

// After all others of its source.
__device__ __forceinline__ BeamRecord no_beam() { return {minus_infinity(), -1, INT_MAX, minus_infinity()}; }

// Whether candidate a comes before b; of those that are not there, none does.
__device__ __forceinline__ bool precedes(const BeamRecord& a, const BeamRecord& b) {
    if (a.parent < 0 || b.parent < 0) return a.parent >= 0 && b.parent < 0;
    if (a.score != b.score) return a.score > b.score;
    return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
}

// The source's B * k candidates, banned ones and those beyond a row's first C marked as not there.
__device__ __forceinline__ void read_candidates(const TakeBeamsArgs& args, const MatrixView& values, int k,
                                                std::int64_t first_row, int generated, BeamRecord* all) {
    const int count = static_cast<int>(args.beams) * k;
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const int beam = i / k;
        const std::int64_t m = first_row + beam;
        const int token = args.ids[m * k + i % k];
        const float value = load(values, m, i % k), sum = args.log_sum_exp[m];
        const bool processed = args.logits.data != nullptr;
        const float log_prob = processed ? floats_of(args.logits, m)[token] - sum : value - sum;
        const bool banned = !processed && is_banned(args.banned, generated, token);
        const float score = (processed ? value : log_prob) + args.scores[m];
        // NaN has no place in an order: the host will not go on with this source.
        all[i] = {score == score ? score : minus_infinity(), banned ? -1 : beam, token, log_prob};
    }
    __syncthreads();
    // A thread a row: k is small, and most rows are all there.
    for (int beam = static_cast<int>(threadIdx.x); beam < args.beams; beam += kThreads) {
        int there = 0;
        for (int i = beam * k; i < (beam + 1) * k; ++i) {
            if (all[i].parent >= 0 && ++there > args.candidates) all[i].parent = -1;
        }
    }
    __syncthreads();
}

// The C best of them, in order.
__device__ __forceinline__ void rank_candidates(const BeamRecord* all, int count, BeamRecord* best, int wanted) {
    for (int i = static_cast<int>(threadIdx.x); i < wanted; i += kThreads) best[i] = no_beam();
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        if (all[i].parent < 0) continue;
        int rank = 0;
        for (int other = 0; other < count; ++other) rank += precedes(all[other], all[i]) ? 1 : 0;
        if (rank < wanted) best[rank] = all[i];
    }
    __syncthreads();
}

// What a beam goes on with.
struct NextBeam {
    float score;
    int parent, token;
};

__device__ __forceinline__ void choose_running(const TakeBeamsArgs& args, const BeamRecord* best, bool at_limit,
                                               float* barred, NextBeam* next) {
    const int count = static_cast<int>(args.candidates), beams = static_cast<int>(args.beams);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        const bool ends = at_limit || contains(args.banned.ends, args.banned.end_count, best[i].token);
        barred[i] = best[i].score + (ends ? kBarred : 0.0f);
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) {
        int rank = 0;
        for (int other = 0; other < count; ++other) {
            rank += barred[other] > barred[i] || (barred[other] == barred[i] && other < i) ? 1 : 0;
        }
        const int parent = best[i].parent < 0 ? 0 : best[i].parent;  // none: what the host will not look at
        if (rank < beams) next[rank] = {barred[i], parent, best[i].parent < 0 ? 0 : best[i].token};
    }
    __syncthreads();
}

// Rows [first, first + B) of a table become their parents' rows, in the first `length` columns; `cells` holds a column
// for each thread.
__device__ __forceinline__ void follow_parents(std::int32_t* table, std::int64_t stride, std::int64_t first_row,
                                               int beams, int length, const NextBeam* next, std::int32_t* cells) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < length; i += kThreads) {
        std::int32_t* column = table + first_row * stride + i;
        for (int beam = 0; beam < beams; ++beam) {
            cells[beam * kThreads + thread] = column[next[beam].parent * stride];
        }
        for (int beam = 0; beam < beams; ++beam) column[beam * stride] = cells[beam * kThreads + thread];
    }
}

__global__ void __launch_bounds__(kThreads) take_beams_kernel(TakeBeamsArgs args, MatrixView values, int k) {
    LRENGINE_DYNAMIC_SHARED(BeamRecord, all);
    wait_for_previous_kernels();
    allow_next_kernel();
    const int beams = static_cast<int>(args.beams), count = beams * k, wanted = static_cast<int>(args.candidates);
    BeamRecord* best = all + count;
    auto* next = reinterpret_cast<NextBeam*>(best + wanted);
    auto* barred = reinterpret_cast<float*>(next + beams);
    auto* cells = reinterpret_cast<std::int32_t*>(barred + wanted);
    const std::int64_t source = blockIdx.x, first_row = source * beams;
    const int generated = args.step.generated[first_row];

    read_candidates(args, values, k, first_row, generated, all);
    rank_candidates(all, count, best, wanted);
    choose_running(args, best, generated + 1 >= args.limits[source], barred, next);

    bool finite = true;
    for (int beam = 0; beam < beams; ++beam) finite = finite && is_finite(args.log_sum_exp[first_row + beam]);
    BeamRecord* records =
        args.records + (generated % kStepRing * static_cast<std::int64_t>(gridDim.x) + source) * wanted;
    for (int i = static_cast<int>(threadIdx.x); i < wanted; i += kThreads) {
        BeamRecord record = best[i];
        if (!finite) record.log_prob = __int_as_float(0x7fc00000);
        records[i] = record;
    }
    const StepRows& step = args.step;
    const TokenHistory& history = args.history;
    follow_parents(step.history, step.capacity, first_row, beams, step.lengths[first_row], next, cells);
    if (history.tokens != nullptr) {
        follow_parents(history.tokens, history.stride, first_row, beams, history.lengths[first_row], next, cells);
    }
    __syncthreads();
    for (int beam = static_cast<int>(threadIdx.x); beam < beams; beam += kThreads) {
        const std::int64_t m = first_row + beam;
        args.scores[m] = next[beam].score;
        append(history, m, next[beam].token);
        grow(step, m, next[beam].token);
        step.history[m * step.capacity + step.positions[m]] =
            static_cast<std::int32_t>(step.cache_rows[m] / step.capacity);
    }
}

}  // namespace

void CudaBackend::take_beams(const TakeBeamsArgs& args) {
    const std::int64_t rows = args.step.rows, beams = args.beams, k = args.values.cols;
    expect(has_shape(args.values, rows, k), "take_beams: values are not [M, k]");
    expect(beams >= 1 && rows % beams == 0 && args.step.history != nullptr, "take_beams: rows are not beams");
    expect(args.candidates >= beams && args.candidates <= k, "take_beams: not B <= C <= k candidates");
    expect_supported(beams * k <= kMostRankedBeams, "take_beams: too many candidates of one source");
    const auto count = static_cast<std::size_t>(beams * k), wanted = static_cast<std::size_t>(args.candidates);
    const std::size_t shared = (count + wanted) * sizeof(BeamRecord) +
                               static_cast<std::size_t>(beams) * sizeof(NextBeam) + wanted * sizeof(float) +
                               static_cast<std::size_t>(beams) * kThreads * sizeof(std::int32_t);
    static_assert(2 * kMostRankedBeams * sizeof(BeamRecord) < (std::size_t{33} << 10));
    launch(queue_, {dim3(static_cast<unsigned>(rows / beams)), dim3(kThreads), shared}, take_beams_kernel, args,
           view_of(args.values), static_cast<int>(k));
}

}  // namespace lrengine::cuda
