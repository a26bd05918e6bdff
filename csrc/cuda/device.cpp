#include "cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace lrengine::cuda {

namespace {

constexpr int kLeastCapability = 80;  // bfloat16 arithmetic and asynchronous copies
constexpr const char* kUseCpu = "use device \"cpu\"";

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

int attribute(cudaDeviceAttr which, int index) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, index), "device attributes");
    return value;
}

void check_driver() {
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        cudaGetLastError();
        fail(ErrorCode::kDevice,
             std::string("no CUDA driver was found on this machine; install NVIDIA's, or ") + kUseCpu);
    }
    check(cudaRuntimeGetVersion(&runtime), "CUDA runtime");
    if (driver / 1000 < runtime / 1000) {
        fail(ErrorCode::kDevice, "the CUDA driver is for CUDA " + version(driver) + ", but this build needs " +
                                     version(runtime / 1000 * 1000) + " or later; update the driver, or " + kUseCpu);
    }
}

int device_count() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaErrorNoDevice) {
        cudaGetLastError();
        return 0;
    }
    check(status, "CUDA devices");
    return count;
}

}  // namespace

Device::Device(int index) : index_(index) {
    check_driver();
    const int count = device_count();
    if (count == 0) {
        fail(ErrorCode::kDevice, std::string("the CUDA driver finds no device; look at nvidia-smi, at "
                                             "CUDA_VISIBLE_DEVICES and at what a container is given, or ") +
                                     kUseCpu);
    }
    if (index < 0 || index >= count) {
        fail(ErrorCode::kDevice,
             name() + " does not exist; the CUDA devices here are cuda:0 to cuda:" + std::to_string(count - 1));
    }
    use();
    capability_ =
        10 * attribute(cudaDevAttrComputeCapabilityMajor, index) + attribute(cudaDevAttrComputeCapabilityMinor, index);
    if (capability_ < kLeastCapability) {
        fail(ErrorCode::kDevice, name() + ": compute capability " + std::to_string(capability_ / 10) + "." +
                                     std::to_string(capability_ % 10) +
                                     ", but 8.0 or later is needed; choose another device, or " + kUseCpu);
    }
    processors_ = attribute(cudaDevAttrMultiProcessorCount, index);
    shared_ = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
    cache_ = static_cast<std::size_t>(attribute(cudaDevAttrL2CacheSize, index));
    const char* overlap = std::getenv("LRENGINE_CUDA_OVERLAP");
    overlap_wanted_ = overlap == nullptr || std::strcmp(overlap, "0") != 0;
    matmul_ = load_matmul_library();
}

Device::~Device() {
    cudaSetDevice(index_);
    drop_spare_memory();
    for (const Lane& lane : spare_lanes_) destroy(lane);
}

std::string Device::name() const { return "cuda:" + std::to_string(index_); }

void Device::use() const { check(cudaSetDevice(index_), "choosing the device"); }

void* Device::allocate(std::size_t bytes) {
    // What no device has must not become little by the rounding below.
    if (bytes > std::numeric_limits<std::size_t>::max() / 2) {
        fail(ErrorCode::kOutOfMemory, "device memory, " + std::to_string(bytes) + " bytes more: out of memory");
    }
    // Rounded up, so that sessions of like sizes can take over each other's memory.
    const std::size_t step = bytes < kLargeBlock ? std::size_t{4096} : kLargeBlock;
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + step - 1) / step * step;
    const std::lock_guard lock(mutex_);
    if (const auto spare = spare_.find(size); spare != spare_.end()) {
        void* memory = spare->second;
        sizes_[memory] = size;
        spare_.erase(spare);
        return memory;
    }
    void* memory = nullptr;
    cudaError_t status = cudaMalloc(&memory, size);
    if (status == cudaErrorMemoryAllocation && !spare_.empty()) {
        cudaGetLastError();
        drop_spare_memory();
        status = cudaMalloc(&memory, size);
    }
    if (status != cudaSuccess) fail_with(status, "device memory, " + std::to_string(size) + " bytes more");
    try {
        sizes_[memory] = size;
    } catch (...) {
        cudaFree(memory);
        throw;
    }
    return memory;
}

void Device::deallocate(void* memory, bool keep) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = sizes_.find(memory);
    if (found == sizes_.end()) return;
    const std::size_t size = found->second;
    sizes_.erase(found);
    if (keep) {
        try {
            spare_.emplace(size, memory);
            return;
        } catch (...) {
        }
    }
    cudaFree(memory);
}

Device::Lane Device::take_lane() {
    {
        const std::lock_guard lock(mutex_);
        if (!spare_lanes_.empty()) {
            const Lane lane = spare_lanes_.back();
            spare_lanes_.pop_back();
            return lane;
        }
    }
    Lane lane;
    check(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking), "stream");
    void* staging = nullptr;
    if (const cudaError_t status = cudaMallocHost(&staging, kStagingBytes); status != cudaSuccess) {
        destroy(lane);
        fail_with(status, "page-locked memory");
    }
    lane.staging = static_cast<char*>(staging);
    return lane;
}

void Device::give_back(Lane lane, bool keep) noexcept {
    if (keep) {
        try {
            const std::lock_guard lock(mutex_);
            spare_lanes_.push_back(lane);
            return;
        } catch (...) {
        }
    }
    destroy(lane);
}

void Device::destroy(Lane lane) noexcept {
    if (lane.staging != nullptr) cudaFreeHost(lane.staging);
    cudaStreamDestroy(lane.stream);
}

void Device::drop_spare_memory() noexcept {
    for (const auto& [size, memory] : spare_) cudaFree(memory);
    spare_.clear();
}

}  // namespace lrengine::cuda
