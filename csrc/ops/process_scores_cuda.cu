// Scores that processors changed: a copy of the logits, and then the few places where it differs.
//
// The copy goes over all of the row, in as many blocks as fill the device: M V floats read and written, for V = 135,359
// 1.1 MB a row, 0.25 us at 4.3 TB/s. The changes are a block's a row: a history of H tokens is 4 H bytes, and n times
// that for n-grams, from the first-level cache after the first time. A token that stands in the history twice is
// written twice, with the same number, since that is made of the logit and not of what is there.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/candidates.cuh"
#include "ops/take_tokens.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kEach = 8;  // columns of a thread

__device__ __forceinline__ float score_of(const ProcessScoresArgs& args, std::int64_t row, std::int64_t token) {
    const float logit = floats_of(args.logits, row)[token];
    return args.offsets != nullptr ? logit - args.offsets[row] : logit;
}

// Grid: rows, stretches.
__global__ void __launch_bounds__(kThreads) copy_scores_kernel(ProcessScoresArgs args) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x, first = static_cast<std::int64_t>(blockIdx.y) * kThreads * kEach + threadIdx.x;
    float* scores = floats_of(args.scores, row);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
        const std::int64_t token = first + i * kThreads;
        if (token < args.scores.cols) scores[token] = score_of(args, row, token);
    }
}

// Two threads may write to one place, the same number.
__device__ __forceinline__ void set_score(const ProcessScoresArgs& args, std::int64_t row, int token, float value) {
    if (token >= 0 && token < args.scores.cols) atomicExch(floats_of(args.scores, row) + token, value);
}

__device__ __forceinline__ void ban(const ProcessScoresArgs& args, std::int64_t row, const std::int32_t* ids,
                                    int count) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads)
        set_score(args, row, ids[i], minus_infinity());
}

// Tokens after which the row's last n - 1 tokens stand in it already.
__device__ __forceinline__ void ban_ngrams(const ProcessScoresArgs& args, std::int64_t row, const std::int32_t* history,
                                           int length) {
    const int size = args.no_repeat_ngram;
    if (size > length) return;
    const std::int32_t* prefix = history + length - (size - 1);
    for (int start = static_cast<int>(threadIdx.x); start <= length - size; start += kThreads) {
        bool same = true;
        for (int i = 0; i < size - 1 && same; ++i) same = history[start + i] == prefix[i];
        if (same) set_score(args, row, history[start + size - 1], minus_infinity());
    }
}

// A block a row.
__global__ void __launch_bounds__(kThreads) change_scores_kernel(ProcessScoresArgs args) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x;
    const int length = args.history.tokens != nullptr ? args.history.lengths[row] : 0;
    const std::int32_t* history = args.history.tokens + (length > 0 ? row * args.history.stride : 0);
    if (args.repetition_penalty != 1.0f) {
        for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) {
            const int token = history[i];
            if (token < 0 || token >= args.scores.cols) continue;
            const float score = score_of(args, row, token), penalty = args.repetition_penalty;
            set_score(args, row, token, score < 0.0f ? score * penalty : score / penalty);
        }
        __syncthreads();
    }
    if (args.no_repeat_ngram > 0) ban_ngrams(args, row, history, length);
    if (args.generated[row] < args.banned.min_new_tokens) ban(args, row, args.banned.ends, args.banned.end_count);
    ban(args, row, args.banned.suppressed, args.banned.suppressed_count);
}

}  // namespace

void CudaBackend::process_scores(const ProcessScoresArgs& args) {
    const std::int64_t rows = args.logits.rows, size = args.logits.cols;
    expect(args.logits.dtype == DType::kFloat32 && args.scores.dtype == DType::kFloat32 &&
               has_shape(args.logits, rows, size) && has_shape(args.scores, rows, size),
           "process_scores: logits and scores are not float32 [M, V]");
    const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(divide_up(size, kThreads * kEach)));
    launch(queue_, {grid, dim3(kThreads)}, copy_scores_kernel, args);
    launch(queue_, {dim3(static_cast<unsigned>(rows)), dim3(kThreads)}, change_scores_kernel, args);
}

}  // namespace lrengine::cuda
