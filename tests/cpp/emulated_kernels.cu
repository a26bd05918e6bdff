// Correct kernels of the kinds that the backend is made of.
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>

#include "cuda/relay.cuh"
#include "cuda/shared_memory.cuh"
#include "emulation_kernels.h"

namespace kernels {

namespace {

constexpr int kThreads = 128;
constexpr unsigned kAllLanes = 0xffffffffu;

template <typename Combine>
__device__ float block_reduce(float value, float* partial, Combine combine) {
    for (int offset = 16; offset > 0; offset /= 2) value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    value = partial[0];
    for (int warp = 1; warp < kThreads / 32; ++warp) value = combine(value, partial[warp]);
    __syncthreads();  // `partial` may be used again
    return value;
}

__global__ void __launch_bounds__(kThreads)
    softmax_kernel(const float* __restrict__ in, float* __restrict__ out, int n) {
    LRENGINE_SHARED(float, partial, kThreads / 32);
    LRENGINE_DYNAMIC_SHARED(float, row);  // [n]
    const float* source = in + static_cast<std::size_t>(blockIdx.x) * n;
    float top = -INFINITY;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
        row[i] = source[i];
        top = fmaxf(top, row[i]);
    }
    top = block_reduce(top, partial, [](float a, float b) { return fmaxf(a, b); });
    float sum = 0.0f;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
        row[i] = __expf(row[i] - top);
        sum += row[i];
    }
    sum = block_reduce(sum, partial, [](float a, float b) { return a + b; });
    float* target = out + static_cast<std::size_t>(blockIdx.x) * n;
    for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) target[i] = row[i] / sum;
}

__global__ void double_and_rotate_kernel(float* in, float* out, int count) {
    const auto grid = cooperative_groups::this_grid();
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count) in[i] *= 2.0f;
    grid.sync();
    if (i < count) out[i] = in[(i + count / 2) % count];
}

__global__ void split_sum_kernel(const float* in, float* partial, float* out, unsigned* counter, int n) {
    LRENGINE_SHARED(float, sums, kThreads / 32);
    LRENGINE_SHARED(bool, last, 1);
    float sum = 0.0f;
    for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x); i < n;
         i += kThreads * static_cast<int>(gridDim.x)) {
        sum += in[i];
    }
    const auto add = [](float a, float b) { return a + b; };
    sum = block_reduce(sum, sums, add);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last[0]) return;
    sum = threadIdx.x < gridDim.x ? partial[threadIdx.x] : 0.0f;
    sum = block_reduce(sum, sums, add);
    if (threadIdx.x == 0) {
        *out = sum;
        *counter = 0;
    }
}

__global__ void add_kernel(const float* in, float* out, int n, float value) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) out[i] = in[i] + value;
}

__global__ void intrinsics_kernel(unsigned* out) {
    const unsigned lane = threadIdx.x;
    const unsigned odd = __ballot_sync(kAllLanes, lane & 1u);
    const unsigned equal = __match_any_sync(kAllLanes, lane / 8u);
    const int total = __reduce_add_sync(kAllLanes, static_cast<int>(lane) - 20);
    const unsigned up = __shfl_up_sync(kAllLanes, lane, 3), segment = __shfl_sync(kAllLanes, lane, 9, 8);
    const int least = __reduce_min_sync(kAllLanes, static_cast<int>(lane) - 5);
    const unsigned long long wide = __shfl_down_sync(kAllLanes, (1ull << 40) + lane, 1);
    const int many = __syncthreads_count(lane < 7);
    const float half_sum = __half2float(__hadd(__float2half(1.5f), __shfl_xor_sync(kAllLanes, __float2half(0.25f), 1)));
    if (lane != 13) return;
    const unsigned values[16] = {odd,
                                 equal,
                                 static_cast<unsigned>(total),
                                 up,
                                 segment,
                                 static_cast<unsigned>(least),
                                 static_cast<unsigned>(wide),
                                 static_cast<unsigned>(many),
                                 __byte_perm(0x33221100u, 0x77665544u, 0x7250u),
                                 static_cast<unsigned>(__dp4a(0x01ff0203, 0x04050607, 10)),
                                 __brev(5u),
                                 static_cast<unsigned>(__clz(1 << 20)),
                                 __umulhi(0xffffffffu, 16u),
                                 __float_as_uint(half_sum),
                                 static_cast<unsigned>(__float2int_rn(2.5f)),
                                 static_cast<unsigned>(__popc(odd))};
    for (int i = 0; i < 16; ++i) out[i] = values[i];
}

__global__ void turns_kernel(unsigned* counter, unsigned* out) {
    if (threadIdx.x == 0) out[blockIdx.x] = atomicAdd(counter, 1u);
}

__global__ void relay_kernel(lrengine::cuda::RelayPlan plan, int* between, int* out, bool waits) {
    LRENGINE_SHARED(int, claim, 1);
    lrengine::cuda::Relay relay(plan, claim);
    for (; relay.has_part(); relay.next()) {
        __syncthreads();  // a turn of its own
        if (threadIdx.x + 1 == blockDim.x) between[relay.part()] = 2 * relay.part();
    }
    if (waits) relay.wait();
    for (int p = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); p < plan.parts;
         p += static_cast<int>(gridDim.x * blockDim.x)) {
        out[p] = between[(p + 1) % plan.parts];
    }
    if (waits) relay.end();
}

__global__ void empty_kernel() {}

template <typename... Parameters, typename... Arguments>
cudaError_t launch(unsigned blocks, unsigned threads, std::size_t bytes, bool cooperative, cudaStream_t stream,
                   void (*kernel)(Parameters...), Arguments... arguments) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = cooperative ? 1 : 0;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

unsigned blocks_for(int n) { return static_cast<unsigned>((n + kThreads - 1) / kThreads); }

}  // namespace

cudaError_t softmax(const float* in, float* out, int rows, int n, cudaStream_t stream) {
    return launch(static_cast<unsigned>(rows), kThreads, n * sizeof(float), false, stream, softmax_kernel, in, out, n);
}

cudaError_t double_and_rotate(float* in, float* out, int count) {
    void* arguments[] = {&in, &out, &count};
    return cudaLaunchCooperativeKernel(double_and_rotate_kernel, dim3(blocks_for(count)), dim3(kThreads), arguments, 0,
                                       nullptr);
}

cudaError_t split_sum(const float* in, float* partial, float* out, unsigned* counter, int n, int splits,
                      cudaStream_t stream) {
    return launch(static_cast<unsigned>(splits), kThreads, 0, false, stream, split_sum_kernel, in, partial, out,
                  counter, n);
}

cudaError_t relay(lrengine::cuda::RelayCounters* counters, int* between, int* out, int parts, unsigned blocks,
                  bool waits) {
    return launch(blocks, kThreads, 0, false, nullptr, relay_kernel, lrengine::cuda::RelayPlan{counters, parts},
                  between, out, waits);
}

cudaError_t add(const float* in, float* out, int n, float value, cudaStream_t stream) {
    return launch(blocks_for(n), kThreads, 0, false, stream, add_kernel, in, out, n, value);
}

cudaError_t intrinsics(unsigned* out) { return launch(1, 32, 0, false, nullptr, intrinsics_kernel, out); }

cudaError_t turns(unsigned* counter, unsigned* out, unsigned blocks) {
    return launch(blocks, kThreads, 0, false, nullptr, turns_kernel, counter, out);
}

cudaError_t empty(unsigned blocks, unsigned threads, std::size_t bytes, bool cooperative) {
    return launch(blocks, threads, bytes, cooperative, nullptr, empty_kernel);
}

cudaError_t allow_empty(std::size_t bytes) {
    return cudaFuncSetAttribute(empty_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace kernels
