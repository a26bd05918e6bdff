#include "runtime/device.h"

#include "core/error.h"

namespace lrengine {

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
    // More threads than any machine has is a mistake; each would cost a stack.
    constexpr int kMostThreads = 1024;
    if (options.threads < 0 || options.threads > kMostThreads) {
        fail(ErrorCode::kInvalidArgument, "threads: found " + std::to_string(options.threads) +
                                              ", expected 0 (automatic) to " + std::to_string(kMostThreads));
    }
    if (options.device == "cuda" || options.device.starts_with("cuda:")) {
        fail(ErrorCode::kDevice, "device: found \"" + options.device +
                                     "\", but this build has no CUDA backend; expected \"cpu\" or \"auto\"");
    }
    if (options.device == "auto") {
        if (options.log) options.log("device \"auto\" is the CPU: this build has no CUDA backend");
    } else if (options.device != "cpu") {
        fail(ErrorCode::kInvalidArgument,
             "device: found \"" + options.device + "\", expected \"auto\", \"cpu\" or \"cuda\"");
    }
    return make_cpu_backend(options.threads);
}

}  // namespace lrengine
