// Each row takes the first of its candidates that is not banned, tells the host, and grows.
//
// A thread a row. Bytes: 8 k + 48 a row: nothing but the launch, two loads in a row, and 12 bytes a row over the bus
// to the host's memory, which nobody here waits for.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/candidates.cuh"
#include "ops/take_tokens.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) take_tokens_kernel(TakeTokensArgs args, MatrixView values, int k) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t m = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (m >= args.step.rows) return;
    const int generated = args.step.generated[m];
    TokenRecord taken{0, minus_infinity(), args.log_sum_exp[m]};
    if (args.logits.data != nullptr) {
        taken.token = args.ids[m * k];
        taken.logit = floats_of(args.logits, m)[taken.token];
    }
    for (int i = 0; args.logits.data == nullptr && i < k; ++i) {
        const int id = args.ids[m * k + i];
        const float value = load(values, m, i);
        if (value == minus_infinity() || is_banned(args.banned, generated, id)) continue;
        taken.token = id;
        taken.logit = value;
        break;
    }
    args.records[generated % kStepRing * args.step.rows + m] = taken;
    append(args.history, m, taken.token);
    grow(args.step, m, taken.token);
}

}  // namespace

void CudaBackend::take_tokens(const TakeTokensArgs& args) {
    const std::int64_t rows = args.step.rows;
    expect(has_shape(args.values, rows, args.values.cols), "take_tokens: values are not [M, k]");
    launch(queue_, {dim3(static_cast<unsigned>(divide_up(rows, kThreads))), dim3(kThreads)}, take_tokens_kernel, args,
           view_of(args.values), static_cast<int>(args.values.cols));
}

}  // namespace lrengine::cuda
