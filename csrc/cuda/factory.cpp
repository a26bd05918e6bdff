#include "cuda/factory.h"

#include <charconv>
#include <map>
#include <mutex>

#include "cuda/cuda_backend.h"

namespace lrengine {

namespace {

int index_of(const std::string& device) {
    if (device == "cuda") return 0;
    int index = -1;
    const char* begin = device.c_str() + std::min<std::size_t>(device.size(), 5);
    const char* end = device.c_str() + device.size();
    const auto [rest, status] = std::from_chars(begin, end, index);
    if (!device.starts_with("cuda:") || status != std::errc{} || rest != end || index < 0) {
        fail(ErrorCode::kInvalidArgument, "device: found \"" + device + "\", expected \"cuda\" or \"cuda:INDEX\"");
    }
    return index;
}

// Engines on one GPU share what there is once: spare memory and libraries.
std::shared_ptr<cuda::Device> shared_device(int index) {
    static std::mutex mutex;
    static std::map<int, std::weak_ptr<cuda::Device>> devices;
    const std::lock_guard lock(mutex);
    std::shared_ptr<cuda::Device> device = devices[index].lock();
    if (!device) {
        device = std::make_shared<cuda::Device>(index);
        devices[index] = device;
    }
    return device;
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const std::string& device, DType activations) {
    return std::make_unique<cuda::CudaBackend>(shared_device(index_of(device)), activations);
}

}  // namespace lrengine

int lrengine_cuda_interface() { return lrengine::kBackendInterface; }

lrengine::Backend* lrengine_cuda_open(const char* device) { return lrengine::make_cuda_backend(device).release(); }
