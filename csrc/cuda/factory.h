// Opening a CUDA device, inside the backend's library and, through what it exports, from outside.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

#define LRENGINE_EXPORT __attribute__((visibility("default")))

namespace lrengine {

// device: "cuda" or "cuda:INDEX". activations: until expect_weights() says otherwise.
// Throws Error(kDevice | kInvalidArgument).
std::unique_ptr<Backend> make_cuda_backend(const std::string& device, DType activations = DType::kFloat32);

}  // namespace lrengine

// What runtime/device.cpp looks up after dlopen(). Errors cross as lrengine::Error.
extern "C" LRENGINE_EXPORT int lrengine_cuda_interface();
extern "C" LRENGINE_EXPORT lrengine::Backend* lrengine_cuda_open(const char* device);
