#include "cuda/device.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "cuda/architectures.h"

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

bool is_wanted(const char* variable) {
    const char* value = std::getenv(variable);
    return value == nullptr || std::strcmp(value, "0") != 0;
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

void* page_locked(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes), "page-locked memory");
    return memory;
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
    overlaps_ = capability_ >= 90 && kernels_wait(capability_) && is_wanted("LRENGINE_CUDA_OVERLAP");
    fusion_wanted_ = is_wanted("LRENGINE_CUDA_FUSE");
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "device memory");
    most_spare_bytes_ = total / 8;
    matmul_ = load_matmul_library();
}

Device::~Device() {
    cudaSetDevice(index_);
    drop_spare_memory();
    for (Lane& lane : spare_lanes_) destroy(lane);
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
    if (const auto spare = spare_.lower_bound({size, nullptr}); spare != spare_.end() && spare->first.first == size) {
        void* memory = spare->first.second;
        sizes_[memory] = size;
        spare_.erase(spare);
        spare_bytes_ -= size;
        return memory;
    }
    void* memory = nullptr;
    cudaError_t status = cudaMalloc(&memory, size);
    if (status == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        if (drop_spare_memory()) status = cudaMalloc(&memory, size);
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
            spare_.emplace(std::pair(size, memory), spare_count_++);
            spare_bytes_ += size;
            const auto came_before = [](const auto& a, const auto& b) { return a.second < b.second; };
            while (spare_bytes_ > most_spare_bytes_) drop_spare(std::ranges::min_element(spare_, came_before));
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
            Lane lane = std::move(spare_lanes_.back());
            spare_lanes_.pop_back();
            return lane;
        }
    }
    Lane lane;
    try {
        check(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking), "stream");
        for (cudaEvent_t& mark : lane.marks) check(cudaEventCreateWithFlags(&mark, cudaEventDisableTiming), "event");
        lane.staging = static_cast<char*>(page_locked(kStagingBytes));
        lane.graphs = std::make_unique<GraphCache>();
        constexpr std::size_t kRelayBytes = kRelays * sizeof(RelayCounters);
        check(cudaMalloc(reinterpret_cast<void**>(&lane.relays), kRelayBytes), "device memory for counters");
        check(cudaMemsetAsync(lane.relays, 0, kRelayBytes, lane.stream), "counters");
    } catch (...) {
        destroy(lane);
        throw;
    }
    return lane;
}

// By powers of two: page-locking stops the device.
void Device::grow_mailbox(Lane& lane, std::size_t bytes) {
    constexpr std::size_t kLeast = std::size_t{16} << 10;
    const std::size_t size = std::bit_ceil(std::max(bytes, kLeast));
    void* larger = page_locked(size);
    if (lane.mailbox != nullptr) cudaFreeHost(lane.mailbox);
    lane.mailbox = larger;
    lane.mailbox_bytes = size;
}

void Device::give_back(Lane&& lane, bool keep) noexcept {
    const std::lock_guard lock(mutex_);
    if (keep) {
        try {
            spare_lanes_.reserve(spare_lanes_.size() + 1);
            spare_lanes_.push_back(std::move(lane));
            return;
        } catch (...) {
        }
    }
    drop_scratch(lane);
    destroy(lane);
}

// Of a lane whose scratch memory, if it has some, goes with the device's or has gone.
void Device::destroy(Lane& lane) noexcept {
    lane.graphs.reset();
    for (cudaEvent_t mark : lane.marks) {
        if (mark != nullptr) cudaEventDestroy(mark);
    }
    if (lane.mailbox != nullptr) cudaFreeHost(lane.mailbox);
    if (lane.relays != nullptr) cudaFree(lane.relays);
    if (lane.staging != nullptr) cudaFreeHost(lane.staging);
    if (lane.stream != nullptr) cudaStreamDestroy(lane.stream);
}

void Device::drop_scratch(Lane& lane) noexcept {
    lane.graphs->clear();  // they name it
    if (lane.scratch == nullptr) return;
    sizes_.erase(lane.scratch);
    cudaFree(std::exchange(lane.scratch, nullptr));
    lane.scratch_bytes = 0;
}

void Device::drop_spare(Spare::iterator spare) noexcept {
    cudaFree(spare->first.second);
    spare_bytes_ -= spare->first.first;
    spare_.erase(spare);
}

// And the scratch memory of lanes that nobody uses.
bool Device::drop_spare_memory() noexcept {
    bool dropped = !spare_.empty();
    while (!spare_.empty()) drop_spare(spare_.begin());
    for (Lane& lane : spare_lanes_) {
        dropped = dropped || lane.scratch != nullptr;
        drop_scratch(lane);
    }
    return dropped;
}

}  // namespace lrengine::cuda
