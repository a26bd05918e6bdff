// The CUDA backend is a library of its own, loaded when it is asked for: one package serves machines with and without a
// GPU.
#pragma once

#include <memory>
#include <string>

#include "ops/backend.h"

namespace lrengine {

// Loads liblrengine_cuda.so and opens the device. The file is the one that LRENGINE_CUDA_LIBRARY names, else the one
// beside the library that this code is in. In a program that lrengine is linked into (a static build): beside the
// program's file, whatever the program was called by and from wherever; if none is there, the one that the dynamic
// loader finds (the program's RUNPATH, LD_LIBRARY_PATH, the system's directories). Throws Error(kDevice): no such
// library, one of another version, or what the device says.
std::unique_ptr<Backend> open_cuda(const std::string& device);

}  // namespace lrengine
