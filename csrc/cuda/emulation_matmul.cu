// The matrix library of emulated builds: a thread an element. A kernel like any other, so that streams and graph
// capture treat it as one.
#if defined(LRENGINE_CUDA_EMULATION)

#include "cuda/device.cuh"
#include "cuda/launch.h"
#include "cuda/matmul_library.h"
#include "ops/activation.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 32;

__global__ void matmul_kernel(MatmulArgs args) {
    wait_for_previous_kernels();
    const std::int64_t m = blockIdx.y, n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (n >= args.weight.rows) return;
    const MatrixView x{args.x.data, args.x.stride, args.x.dtype}, out{args.out.data, args.out.stride, args.out.dtype};
    float sum = args.bias.data != nullptr ? args.bias.data[n] : 0.0f;
    for (std::int64_t k = 0; k < args.weight.cols; ++k) {
        sum += load(x, m, k) * load_element(args.weight.data, args.weight.dtype, n * args.weight.cols + k);
    }
    sum = activate(args.activation, sum);
    store(out, m, n, args.accumulate ? sum + load(out, m, n) : sum);
}

class PlainProduct final : public MatmulLibrary {
public:
    // cuBLASLt has ReLU and GELU too, but says neither how exact its tanh is nor that a NaN stays one.
    bool fuses(Activation activation) const override { return activation == Activation::kNone; }

    void run(const MatmulArgs& args, cudaStream_t stream) override {
        LaunchQueue queue{stream};
        const auto blocks = static_cast<unsigned>((args.weight.rows + kThreads - 1) / kThreads);
        launch(queue, {dim3(blocks, static_cast<unsigned>(args.x.rows)), dim3(kThreads)}, matmul_kernel, args);
    }
};

}  // namespace

std::unique_ptr<MatmulLibrary> load_matmul_library() { return std::make_unique<PlainProduct>(); }

}  // namespace lrengine::cuda

#endif  // LRENGINE_CUDA_EMULATION
