#include "cuda/cuda_backend.h"

#include <cstring>
#include <utility>

namespace lrengine::cuda {

namespace {

// Ids, tables and results of a step fit; weights do not and are copied without this stop.
constexpr std::size_t kStagingBytes = Device::kStagingBytes;

// Relays that take turns; two in a row must differ. Recorded launches have their own, since a graph may be started
// behind any launch.
constexpr unsigned kRelays = Device::kRelays / 2;

}  // namespace

CudaBackend::CudaBackend(std::shared_ptr<Device> device, DType activations)
    : device_(std::move(device)), activations_(activations) {
    device_->use();
    queue_.overlap = device_->overlaps_launches();
    lane_ = device_->take_lane();
    queue_.stream = lane_.stream;
}

CudaBackend::~CudaBackend() {
    cudaSetDevice(device_->index());
    const bool idle = cudaStreamSynchronize(queue_.stream) == cudaSuccess;
    device_->give_back(std::move(lane_), idle);
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
    char* staging = lane_.staging + staged_;
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
    const char* staging = lane_.staging + staged_;
    check(cudaMemcpyAsync(lane_.staging + staged_, source, bytes, cudaMemcpyDeviceToHost, queue_.stream),
          "copy to the host");
    synchronize();
    std::memcpy(destination, staging, bytes);
}

// Kernels write to it over the bus: page-locked memory has one address for both sides, and what a kernel wrote is there
// when an event after it is done. So results cost the stream no copy of its own between two steps.
void* CudaBackend::mailbox(std::size_t bytes) {
    device_->use();
    if (bytes > lane_.mailbox_bytes) {
        synchronize();  // steps may still write to the old one
        Device::grow_mailbox(lane_, bytes);
    }
    return lane_.mailbox;
}

void CudaBackend::mark(std::int64_t index) {
    device_->use();
    check(cudaEventRecord(lane_.marks[static_cast<std::size_t>(index)], queue_.stream), "marking a step");
}

void CudaBackend::await(std::int64_t index) {
    device_->use();
    check(cudaEventSynchronize(lane_.marks[static_cast<std::size_t>(index)]), "waiting for a step");
}

void* CudaBackend::scratch(std::size_t bytes) {
    if (bytes > lane_.scratch_bytes) {
        if (recording_) fail(ErrorCode::kInternal, "an op grew its scratch memory while it was being recorded");
        if (lane_.scratch != nullptr) {
            synchronize();
            forget();  // recorded ops name the old memory
            lane_.scratch_bytes = 0;
            device_->deallocate(std::exchange(lane_.scratch, nullptr), true);
        }
        lane_.scratch = device_->allocate(bytes);
        lane_.scratch_bytes = bytes;
    }
    return lane_.scratch;
}

RelayCounters* CudaBackend::next_relay() {
    if (!device_->fuses_halves()) return nullptr;
    return lane_.relays + (recording_ ? kRelays : 0) + relays_taken_++ % kRelays;
}

GraphCache::Signature CudaBackend::complete(std::span<const std::uint64_t> signature) const {
    GraphCache::Signature complete(signature.begin(), signature.end());
    complete.push_back(reinterpret_cast<std::uintptr_t>(lane_.scratch));
    complete.push_back(lane_.scratch_bytes);
    return complete;
}

// A step is run as it is the first time that a session meets it, recorded the second time, and replayed from then on; a
// step that an earlier session recorded, in the same memory, at once.
void CudaBackend::repeat(std::span<const std::uint64_t> signature, const std::function<void()>& ops) {
    device_->use();
    const GraphCache::Signature whole = complete(signature);
    const GraphCache::Recording* recording = lane_.graphs->find(whole);
    if (recording == nullptr && !met_.contains(whole)) {
        const std::int64_t before = queue_.launches;
        ops();
        met_.insert(complete(signature));  // scratch memory may have grown
        device_->count_launches(queue_.launches - before);
        return;
    }
    if (recording == nullptr) recording = &lane_.graphs->add(whole, record(ops));
    check(cudaGraphLaunch(recording->graph, queue_.stream), "graph launch");
    device_->count_launches(recording->launches);
}

GraphCache::Recording CudaBackend::record(const std::function<void()>& ops) {
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
    GraphCache::Recording recording{nullptr, queue_.launches - before};
    check(cudaStreamEndCapture(queue_.stream, &graph), "recording a step");
    const cudaError_t status = cudaGraphInstantiate(&recording.graph, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "graph");
    return recording;
}

void CudaBackend::forget() noexcept {
    lane_.graphs->clear();
    met_.clear();
}

}  // namespace lrengine::cuda
