// Deliberate mistakes, each with its correction: `kWrong` is the only difference.
#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include "cuda/shared_memory.cuh"
#include "emulation_kernels.h"

namespace kernels {

namespace {

constexpr int kThreads = 64;
constexpr unsigned kAllLanes = 0xffffffffu;

template <bool kWrong>
__global__ void no_barrier(int* out) {
    LRENGINE_SHARED(int, values, kThreads);
    values[threadIdx.x] = 0;
    __syncthreads();
    values[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (!kWrong) __syncthreads();
    out[threadIdx.x] = values[(threadIdx.x + 33) % kThreads];
}

template <bool kWrong>
__global__ void no_warp_barrier(int* out) {
    LRENGINE_SHARED(int, values, kThreads);
    values[threadIdx.x] = 0;
    __syncthreads();
    values[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (!kWrong) __syncwarp();
    out[threadIdx.x] = values[threadIdx.x ^ 1u];
}

template <bool kWrong>
__global__ void shared_write_write(int* out) {
    LRENGINE_SHARED(int, value, 1);
    if (threadIdx.x == 0 || (kWrong && threadIdx.x == 40)) value[0] = static_cast<int>(threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = value[0];
}

template <bool kWrong>
__global__ void divergent_barrier(int* out) {
    if (kWrong && threadIdx.x >= 32) return;
    __syncthreads();
    out[threadIdx.x] = 1;
}

template <bool kWrong>
__global__ void two_barriers(int* out) {
    if (threadIdx.x < 32 || !kWrong) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[threadIdx.x] = 1;
}

template <bool kWrong>
__global__ void absent_lane(int* out) {
    if (threadIdx.x % 32 >= 16) return;
    out[threadIdx.x] = __shfl_xor_sync(kWrong ? kAllLanes : 0xffffu, static_cast<int>(threadIdx.x), 1);
}

template <bool kWrong>
__global__ void lane_outside_mask(int* out) {
    out[threadIdx.x] = __shfl_xor_sync(kWrong ? 0xffffu : kAllLanes, static_cast<int>(threadIdx.x), 1);
}

// `count` counts ints of `in`.
template <bool kWrong>
__global__ void read_past_end(const int* in, int* out, int count) {
    const int i = static_cast<int>(threadIdx.x);
    if (kWrong ? i <= count : i < count) out[i % count] = in[i];
}

template <bool kWrong>
__global__ void write_past_end(int* out, int count) {
    const int i = static_cast<int>(threadIdx.x);
    if (kWrong ? i <= count : i < count) out[i] = i;
}

template <bool kWrong>
__global__ void shared_past_end(int* out) {
    LRENGINE_SHARED(int, values, kThreads);
    values[threadIdx.x + (kWrong ? 1 : 0)] = 1;
    out[threadIdx.x] = 1;
}

template <bool kWrong>
__global__ void misaligned_vector(const float* in, float* out) {
    const float* start = in + (kWrong ? 1 : 4);
    const float4 value = *reinterpret_cast<const float4*>(start);
    out[threadIdx.x] = value.x + value.w;
}

__global__ void read_one(const int* in, int* out) {
    if (threadIdx.x == 0) out[0] = in[0];
}

template <bool kWrong>
__global__ void others_stack(int* out) {
    LRENGINE_SHARED(int*, pointer, 1);
    LRENGINE_SHARED(int, copy, 1);
    volatile int local = static_cast<int>(threadIdx.x);
    if (threadIdx.x == 0) {
        pointer[0] = const_cast<int*>(&local);
        copy[0] = local;
    }
    __syncthreads();
    out[threadIdx.x] = kWrong ? *pointer[0] : copy[0];
}

template <bool kWrong>
__global__ void unwritten_shared(int* out) {
    LRENGINE_SHARED(int, values, kThreads);
    if (!kWrong || threadIdx.x != 5) values[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x ^ 1u];
}

template <bool kWrong>
__global__ void blocks_write_one(int* out) {
    if (threadIdx.x == 0) out[kWrong ? 0 : blockIdx.x] = static_cast<int>(blockIdx.x);
}

template <bool kWrong>
__global__ void no_fence(int* partial, int* out, unsigned* counter) {
    LRENGINE_SHARED(bool, last, 1);
    partial[blockIdx.x * kThreads + threadIdx.x] = 1;
    if (!kWrong) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last[0] = atomicAdd(counter, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last[0]) return;
    int sum = 0;
    for (unsigned block = 0; block < gridDim.x; ++block) sum += partial[block * kThreads + threadIdx.x];
    out[threadIdx.x] = sum;
}

template <bool kWrong>
__global__ void threads_of_block_device(int* scratch, int* out) {
    scratch[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (!kWrong) __syncthreads();
    out[threadIdx.x] = scratch[(threadIdx.x + 33) % kThreads];
}

__global__ void produce(int* out) { out[threadIdx.x] = 3; }

template <bool kWrong>
__global__ void consume(const int* in, int* out) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if (!kWrong) cudaGridDependencySynchronize();
#endif
    out[threadIdx.x] = in[threadIdx.x];
}

__global__ void grid_barrier() { cooperative_groups::this_grid().sync(); }

template <bool kWrong>
__global__ void spin(unsigned* flag, int* out) {
    if (threadIdx.x != 0) return;
    if (!kWrong || blockIdx.x == gridDim.x) atomicExch(flag, 1u);
    while (atomicAdd(flag, 0u) == 0u) {
    }
    out[blockIdx.x] = 1;
}

// Each block waits for others, which need not all be there at a time.
template <bool kWrong>
__global__ void own_barrier(unsigned* counter) {
    if (threadIdx.x != 0) return;
    atomicAdd(counter, 1u);
    while (atomicAdd(counter, 0u) < (kWrong ? gridDim.x : 1u)) {
    }
}

struct Shape {
    unsigned blocks = 1;
    bool cooperative = false, overlap = false;
};

template <typename... Parameters, typename... Arguments>
cudaError_t launch(Shape shape, void (*kernel)(Parameters...), Arguments... arguments) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeIgnore;
    if (shape.cooperative) {
        attribute.id = cudaLaunchAttributeCooperative;
        attribute.val.cooperative = 1;
    } else if (shape.overlap) {
        attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attribute.val.programmaticStreamSerializationAllowed = 1;
    }
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(shape.blocks);
    config.blockDim = dim3(kThreads);
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Device memory of kThreads ints a block, for 4 blocks.
struct Buffers {
    Buffers() {
        for (int** buffer : {&in, &out, &scratch}) {
            if (cudaMalloc(reinterpret_cast<void**>(buffer), kBytes) != cudaSuccess) *buffer = nullptr;
        }
        cudaMemset(in, 0, kBytes);
    }
    ~Buffers() {
        for (int* buffer : {in, out, scratch}) cudaFree(buffer);
    }
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;

    static constexpr std::size_t kBytes = 4 * kThreads * sizeof(int);
    int *in = nullptr, *out = nullptr, *scratch = nullptr;
};

cudaError_t use_after_free(bool wrong, int* out) {
    int* memory = nullptr;
    if (const cudaError_t error = cudaMalloc(reinterpret_cast<void**>(&memory), 4); error != cudaSuccess) return error;
    cudaMemset(memory, 0, 4);
    if (wrong) cudaFree(memory);
    const cudaError_t error = launch({}, read_one, memory, out);
    if (!wrong) cudaFree(memory);
    return error;
}

cudaError_t host_touches_device(bool wrong, const int* in) {
    volatile int host = 0;
    if (wrong) {
        host = *in;
        return cudaSuccess;
    }
    return cudaMemcpy(const_cast<int*>(&host), in, sizeof(int), cudaMemcpyDeviceToHost);
}

template <bool kWrong>
cudaError_t no_dependency_wait(int* between, int* out) {
    constexpr Shape kOverlapping{1, false, true};
    if (const cudaError_t error = launch({}, produce, between); error != cudaSuccess) return error;
    const cudaError_t error = launch(kOverlapping, consume<kWrong>, between, out);
    if (kWrong || error != cudaSuccess) return error;
    // Launches overlap only where nothing lies between them.
    if (const cudaError_t again = launch({}, produce, between); again != cudaSuccess) return again;
    cudaMemset(out, 0, sizeof(int));
    return launch(kOverlapping, consume<true>, between, out);
}

template <bool kWrong>
cudaError_t run_one(Mistake mistake) {
    Buffers buffers;
    int *in = buffers.in, *out = buffers.out, *scratch = buffers.scratch;
    auto* counter = reinterpret_cast<unsigned*>(in);
    constexpr int kCount = 4 * kThreads;  // of ints in a buffer; the launch for one past the end starts near it
    switch (mistake) {
        case Mistake::kNoBarrier:
            return launch({}, no_barrier<kWrong>, out);
        case Mistake::kNoWarpBarrier:
            return launch({}, no_warp_barrier<kWrong>, out);
        case Mistake::kSharedWriteWrite:
            return launch({}, shared_write_write<kWrong>, out);
        case Mistake::kDivergentBarrier:
            return launch({}, divergent_barrier<kWrong>, out);
        case Mistake::kTwoBarriers:
            return launch({}, two_barriers<kWrong>, out);
        case Mistake::kAbsentLane:
            return launch({}, absent_lane<kWrong>, out);
        case Mistake::kLaneOutsideMask:
            return launch({}, lane_outside_mask<kWrong>, out);
        case Mistake::kReadPastEnd:
            return launch({}, read_past_end<kWrong>, in + kCount - 7, out, 7);
        case Mistake::kWritePastEnd:
            return launch({}, write_past_end<kWrong>, out + kCount - 7, 7);
        case Mistake::kSharedPastEnd:
            return launch({}, shared_past_end<kWrong>, out);
        case Mistake::kMisalignedVector:
            return launch({}, misaligned_vector<kWrong>, reinterpret_cast<float*>(in), reinterpret_cast<float*>(out));
        case Mistake::kUseAfterFree:
            return use_after_free(kWrong, out);
        case Mistake::kHostPointer: {
            int host = 0;
            return launch({}, read_one, kWrong ? &host : in, out);
        }
        case Mistake::kHostTouchesDevice:
            return host_touches_device(kWrong, in);
        case Mistake::kOthersStack:
            return launch({}, others_stack<kWrong>, out);
        case Mistake::kUnwrittenShared:
            return launch({}, unwritten_shared<kWrong>, out);
        case Mistake::kUnwrittenDevice:
            return launch({}, read_one, kWrong ? scratch : in, out);
        case Mistake::kBlocksWriteOne:
            return launch({4}, blocks_write_one<kWrong>, out);
        case Mistake::kNoFence:
            return launch({4}, no_fence<kWrong>, scratch, out, counter);
        case Mistake::kThreadsOfBlockDevice:
            return launch({}, threads_of_block_device<kWrong>, scratch, out);
        case Mistake::kNoDependencyWait:
            return no_dependency_wait<kWrong>(scratch, out);
        case Mistake::kGridBarrierAlone:
            return launch({4, !kWrong}, grid_barrier);
        case Mistake::kSpinForever:
            return launch({4}, spin<kWrong>, counter, out);
        case Mistake::kOwnGridBarrier:
            return launch({16}, own_barrier<kWrong>, counter);
    }
    return cudaErrorInvalidValue;
}

}  // namespace

cudaError_t run(Mistake mistake, bool wrong) {
    const cudaError_t error = wrong ? run_one<true>(mistake) : run_one<false>(mistake);
    return error != cudaSuccess ? error : cudaDeviceSynchronize();
}

}  // namespace kernels
