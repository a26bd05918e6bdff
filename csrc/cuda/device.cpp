#include "cuda/device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace lrengine::cuda {

namespace {

constexpr int kLeastCapability = 80;  // bfloat16 arithmetic and asynchronous copies

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
        fail(ErrorCode::kDevice, "no CUDA driver was found on this machine");
    }
    check(cudaRuntimeGetVersion(&runtime), "CUDA runtime");
    if (driver / 1000 < runtime / 1000) {
        fail(ErrorCode::kDevice, "the CUDA driver is for CUDA " + version(driver) + ", but this build needs " +
                                     version(runtime / 1000 * 1000) + " or later");
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
    if (count == 0) fail(ErrorCode::kDevice, "the CUDA driver finds no device");
    if (index < 0 || index >= count) {
        fail(ErrorCode::kDevice, name() + ": there are " + std::to_string(count) + " CUDA devices, counted from 0");
    }
    use();
    capability_ =
        10 * attribute(cudaDevAttrComputeCapabilityMajor, index) + attribute(cudaDevAttrComputeCapabilityMinor, index);
    if (capability_ < kLeastCapability) {
        fail(ErrorCode::kDevice, name() + ": compute capability " + std::to_string(capability_ / 10) + "." +
                                     std::to_string(capability_ % 10) + ", but 8.0 or later is needed");
    }
    processors_ = attribute(cudaDevAttrMultiProcessorCount, index);
    shared_ = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, index));
    const char* overlap = std::getenv("LRENGINE_CUDA_OVERLAP");
    overlap_wanted_ = overlap == nullptr || std::strcmp(overlap, "0") != 0;
    matmul_ = load_matmul_library();
}

Device::~Device() {
    if (cudaSetDevice(index_) == cudaSuccess) drop_spare_memory();
}

std::string Device::name() const { return "cuda:" + std::to_string(index_); }

void Device::use() const { check(cudaSetDevice(index_), "choosing the device"); }

void* Device::allocate(std::size_t bytes) {
    // Rounded up, so that sessions of like sizes can take over each other's memory.
    const std::size_t step = bytes < kLargeBlock ? std::size_t{4096} : kLargeBlock;
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + step - 1) / step * step;
    const std::lock_guard lock(mutex_);
    if (const auto spare = spare_.find(size); spare != spare_.end()) {
        void* memory = spare->second;
        spare_.erase(spare);
        sizes_[memory] = size;
        return memory;
    }
    void* memory = nullptr;
    cudaError_t status = cudaMalloc(&memory, size);
    if (status == cudaErrorMemoryAllocation && !spare_.empty()) {
        cudaGetLastError();
        drop_spare_memory();
        status = cudaMalloc(&memory, size);
    }
    check(status, "device memory");
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

void Device::drop_spare_memory() noexcept {
    for (const auto& [size, memory] : spare_) cudaFree(memory);
    spare_.clear();
}

}  // namespace lrengine::cuda
