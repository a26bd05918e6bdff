// CUDA's error codes as the engine's exceptions.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "core/error.h"

namespace lrengine::cuda {

// Out of memory is the request's or the model's size: kOutOfMemory, and the device stays usable. Everything else is
// kDevice; after a fault of a kernel ("sticky") the message says that the engine must be reopened in a new process.
[[noreturn]] void fail_with(cudaError_t status, const std::string& what);

inline void check(cudaError_t status, const char* what) {
    if (status != cudaSuccess) fail_with(status, what);
}

}  // namespace lrengine::cuda
