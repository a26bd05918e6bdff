// What every kernel needs: elements of any type as float32, reductions, and the start of a kernel.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "core/tensor.h"
#include "cuda/shared_memory.cuh"

namespace lrengine::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A matrix as kernels see it. The element type is a run-time value: it is the same for all threads, so the branch costs
// next to nothing, and one kernel serves every mixture of types.
struct MatrixView {
    void* data;
    std::int64_t stride;  // elements
    DType dtype;
};

inline MatrixView view_of(const Matrix& matrix) { return {matrix.data, matrix.stride, matrix.dtype}; }

__device__ __forceinline__ float load_element(const void* data, DType dtype, std::int64_t index) {
    switch (dtype) {
        case DType::kBFloat16:
            return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[index]);
        case DType::kFloat16:
            return __half2float(static_cast<const __half*>(data)[index]);
        default:
            return static_cast<const float*>(data)[index];
    }
}

__device__ __forceinline__ void store_element(void* data, DType dtype, std::int64_t index, float value) {
    switch (dtype) {
        case DType::kBFloat16:
            static_cast<__nv_bfloat16*>(data)[index] = __float2bfloat16(value);
            break;
        case DType::kFloat16:
            static_cast<__half*>(data)[index] = __float2half(value);
            break;
        default:
            static_cast<float*>(data)[index] = value;
    }
}

__device__ __forceinline__ float load(const MatrixView& matrix, std::int64_t row, std::int64_t col) {
    return load_element(matrix.data, matrix.dtype, row * matrix.stride + col);
}

__device__ __forceinline__ void store(const MatrixView& matrix, std::int64_t row, std::int64_t col, float value) {
    store_element(matrix.data, matrix.dtype, row * matrix.stride + col, value);
}

// First statement of every kernel that reads what a kernel wrote: with overlapped launches the grid may have been
// started before the one ahead of it is done. Weights may be read before it.
__device__ __forceinline__ void wait_for_previous_kernels() {
#if defined(LRENGINE_CUDA_EMULATION)
    cudaGridDependencySynchronize();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// From here on the next kernel's blocks may be scheduled; its wait is still for this grid's end.
__device__ __forceinline__ void allow_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ float warp_sum(float value) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, offset));
    }
    return value;
}

// The sum over the block, for every thread; `partial` is shared memory of 32 floats, free again after the next
// __syncthreads(). Every thread of the block calls it; blockDim.x is a multiple of 32.
__device__ __forceinline__ float block_sum(float value, float* partial) {
    value = warp_sum(value);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    __syncthreads();
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return warp_sum(lane < warps ? partial[lane] : 0.0f);
}

__device__ __forceinline__ float block_max(float value, float* partial) {
    value = warp_max(value);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
    __syncthreads();
    if (lane == 0) partial[warp] = value;
    __syncthreads();
    return warp_max(lane < warps ? partial[lane] : partial[0]);
}

}  // namespace lrengine::cuda
