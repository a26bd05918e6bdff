#include "cuda/cuda_backend.h"

#include <cstring>
#include <utility>

namespace lrengine::cuda {

namespace {

// Ids, tables and results of a step fit; weights do not and are copied without this stop.
constexpr std::size_t kStagingBytes = Device::kStagingBytes;

}  // namespace

CudaBackend::CudaBackend(std::shared_ptr<Device> device, DType activations)
    : device_(std::move(device)), activations_(activations) {
    device_->use();
    queue_.overlap = device_->overlaps_launches();
    const Device::Lane lane = device_->take_lane();
    queue_.stream = lane.stream;
    staging_ = lane.staging;
}

CudaBackend::~CudaBackend() {
    cudaSetDevice(device_->index());
    const bool idle = cudaStreamSynchronize(queue_.stream) == cudaSuccess;
    forget();
    if (scratch_ != nullptr) device_->deallocate(scratch_, idle);
    device_->give_back({queue_.stream, staging_}, idle);
}

// Waits for the weights that are still being copied: the new stream has no order with this one.
std::shared_ptr<Backend> CudaBackend::fork() {
    auto session = std::make_shared<CudaBackend>(device_, activations_);
    check(cudaStreamSynchronize(queue_.stream), "waiting for the weights");
    return session;
}

// int8 and int4 say nothing about activations; bfloat16 has float32's range.
void CudaBackend::expect_weights(DType dtype) {
    const bool quantized = dtype == DType::kInt8 || dtype == DType::kInt4;
    activations_ = quantized ? DType::kBFloat16 : dtype;
}

void* CudaBackend::allocate(std::size_t bytes) {
    device_->use();
    return device_->allocate(bytes);
}

void CudaBackend::deallocate(void* memory) noexcept {
    cudaSetDevice(device_->index());
    device_->deallocate(memory, cudaStreamSynchronize(queue_.stream) == cudaSuccess);
}

void CudaBackend::synchronize() {
    check(cudaStreamSynchronize(queue_.stream), "waiting for the device");
    staged_ = 0;
}

void CudaBackend::copy_to_device(void* destination, const void* source, std::size_t bytes) {
    if (bytes == 0) return;
    device_->use();
    if (bytes > kStagingBytes) {
        check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyHostToDevice, queue_.stream), "copy to the device");
        synchronize();  // the caller may write to `source` when this returns
        return;
    }
    if (staged_ + bytes > kStagingBytes) synchronize();
    char* staging = staging_ + staged_;
    staged_ += (bytes + 15) / 16 * 16;
    std::memcpy(staging, source, bytes);
    check(cudaMemcpyAsync(destination, staging, bytes, cudaMemcpyHostToDevice, queue_.stream), "copy to the device");
}

void CudaBackend::copy_to_host(void* destination, const void* source, std::size_t bytes) {
    if (bytes == 0) return;
    device_->use();
    if (staged_ + bytes > kStagingBytes) {
        check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToHost, queue_.stream), "copy to the host");
        synchronize();
        return;
    }
    const char* staging = staging_ + staged_;
    check(cudaMemcpyAsync(staging_ + staged_, source, bytes, cudaMemcpyDeviceToHost, queue_.stream),
          "copy to the host");
    synchronize();
    std::memcpy(destination, staging, bytes);
}

void* CudaBackend::scratch(std::size_t bytes) {
    if (bytes > scratch_bytes_) {
        if (recording_) fail(ErrorCode::kInternal, "an op grew its scratch memory while it was being recorded");
        if (scratch_ != nullptr) {
            synchronize();
            forget();  // recorded ops name the old memory
            device_->deallocate(std::exchange(scratch_, nullptr), true);
            scratch_bytes_ = 0;
        }
        scratch_ = device_->allocate(bytes);
        scratch_bytes_ = bytes;
    }
    return scratch_;
}

void CudaBackend::repeat(std::uint64_t key, const std::function<void()>& ops) {
    device_->use();
    Repetition& repetition = repetitions_[key];
    if (!repetition.met) {
        const std::int64_t before = queue_.launches;
        ops();                  // may forget() what was recorded before
        repetition.met = true;  // not before: had `ops` run out of memory, some would not be there
        device_->count_launches(queue_.launches - before);
        return;
    }
    if (repetition.graph == nullptr) record(repetition, ops);
    check(cudaGraphLaunch(repetition.graph, queue_.stream), "graph launch");
    device_->count_launches(repetition.launches);
}

void CudaBackend::record(Repetition& repetition, const std::function<void()>& ops) {
    check(cudaStreamBeginCapture(queue_.stream, cudaStreamCaptureModeThreadLocal), "recording a step");
    recording_ = true;
    const std::int64_t before = queue_.launches;
    cudaGraph_t graph = nullptr;
    try {
        ops();
    } catch (...) {
        recording_ = false;
        cudaStreamEndCapture(queue_.stream, &graph);
        if (graph != nullptr) cudaGraphDestroy(graph);
        cudaGetLastError();
        throw;
    }
    recording_ = false;
    repetition.launches = queue_.launches - before;
    check(cudaStreamEndCapture(queue_.stream, &graph), "recording a step");
    const cudaError_t status = cudaGraphInstantiate(&repetition.graph, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "graph");
}

void CudaBackend::forget() noexcept {
    for (auto& [key, repetition] : repetitions_) {
        if (repetition.graph != nullptr) cudaGraphExecDestroy(repetition.graph);
        repetition = {};
    }
}

}  // namespace lrengine::cuda
