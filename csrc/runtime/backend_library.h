// The CUDA backend is a library of its own, loaded when it is asked for: one package serves machines with and without a
// GPU.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace lrengine {

// Loads liblrengine_cuda.so (LRENGINE_CUDA_LIBRARY names another file) from the directory of the library that this code
// is in, and opens the device. Throws Error(kDevice): no such library, one of another version, or what the device says.
std::unique_ptr<Backend> open_cuda(const std::string& device);

}  // namespace lrengine
