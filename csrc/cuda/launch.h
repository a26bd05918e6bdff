// Launching kernels: one way for a GPU, for graph capture and for the emulation.
#pragma once

#include <cstdint>
#include <utility>

#include "cuda/status.h"

namespace lrengine::cuda {

struct LaunchShape {
    dim3 grid;
    dim3 block;
    std::size_t shared_bytes = 0;  // dynamic; above 48 KiB the kernel needs allow_shared() once
};

// Where kernels go: a stream, and whether a kernel may start while the one before it ends (programmatic dependent
// launch, compute capability 9.0 and later).
struct LaunchQueue {
    cudaStream_t stream = nullptr;
    bool overlap = false;
    std::int64_t launches = 0;  // so far, recorded ones included
};

// A kernel launched here begins with wait_for_previous_kernels() (cuda/device.cuh) before it touches anything that a
// kernel may have written. Does nothing for an empty grid. Throws Error(kDevice).
template <typename... Parameters, typename... Arguments>
void launch(LaunchQueue& queue, const LaunchShape& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
    if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = queue.stream;
    config.attrs = &attribute;
    config.numAttrs = queue.overlap ? 1 : 0;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...),
          "kernel launch");
    ++queue.launches;
}

// Lets a kernel use up to `bytes` of dynamic shared memory.
template <typename... Parameters>
void allow_shared(void (*kernel)(Parameters...), std::size_t bytes) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(bytes)),
          "shared memory");
}

}  // namespace lrengine::cuda
