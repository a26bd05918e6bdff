#include "runtime/device.h"

#include "core/error.h"
#include "runtime/backend_library.h"

namespace lrengine {

namespace {

bool names_cuda(const std::string& device) { return device == "cuda" || device.starts_with("cuda:"); }

// CUDA where there is a device that works, the CPU elsewhere; the log is told which, and why.
std::unique_ptr<Backend> make_automatic(const EngineOptions& options) {
    const auto log = [&](const std::string& text) {
        if (options.log) options.log("device \"auto\" is " + text);
    };
    try {
        std::unique_ptr<Backend> backend = open_cuda("cuda");
        log(backend->device());
        return backend;
    } catch (const Error& error) {
        log(std::string("the CPU: ") + error.what());
    }
    return make_cpu_backend(options.threads);
}

}  // namespace

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
    // More threads than any machine has is a mistake; each would cost a stack.
    constexpr int kMostThreads = 1024;
    if (options.threads < 0 || options.threads > kMostThreads) {
        fail(ErrorCode::kInvalidArgument, "threads: found " + std::to_string(options.threads) +
                                              ", expected 0 (automatic) to " + std::to_string(kMostThreads));
    }
    if (names_cuda(options.device)) return open_cuda(options.device);
    if (options.device == "auto") return make_automatic(options);
    if (options.device == "cpu") return make_cpu_backend(options.threads);
    fail(ErrorCode::kInvalidArgument,
         "device: found \"" + options.device + "\", expected \"auto\", \"cpu\", \"cuda\" or \"cuda:INDEX\"");
}

}  // namespace lrengine
