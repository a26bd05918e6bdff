// Allocation, copies and fills.
#include <cstring>

#include "capture.h"
#include "device_memory.h"
#include "runtime.h"

using emulation::device_memory;
using emulation::MemoryRange;
using emulation::NodeKind;
using emulation::pinned_memory;
using emulation::remember;
using emulation::runtime;

namespace {

bool allocation_fails() {
    std::uint64_t& left = runtime().allocations_until_failure;
    return left > 0 && --left == 0;
}

cudaError_t allocate(MemoryRange& range, void** pointer, std::size_t bytes, std::size_t limit) {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (allocation_fails()) return cudaErrorMemoryAllocation;
    if (range.bytes_alive() > limit || bytes > limit - range.bytes_alive()) return cudaErrorMemoryAllocation;
    *pointer = range.allocate(bytes);
    if (*pointer == nullptr) return cudaErrorMemoryAllocation;
    runtime().counters.allocations++;
    return cudaSuccess;
}

// Works after a sticky error too, so that owners can clean up.
cudaError_t release(MemoryRange& range, void* pointer) {
    const emulation::Lock lock(runtime().mutex);
    if (pointer == nullptr) return remember(emulation::check_device());
    if (const cudaError_t refused = emulation::refuse_in_capture(cudaErrorStreamCaptureUnsupported)) {
        return remember(refused);
    }
    runtime().overlapping_epoch = 0;  // freeing waits for the device
    if (!range.free(pointer)) return remember(cudaErrorInvalidValue);
    return remember(emulation::check_device());
}

enum class Place { kDevice, kPinned, kPageable, kBroken };

// Where all of the bytes lie; kBroken for device addresses that are not all allocated.
Place place_of(const void* pointer, std::size_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (device_memory().contains(address))
        return device_memory().holds(pointer, bytes) ? Place::kDevice : Place::kBroken;
    if (pinned_memory().contains(address))
        return pinned_memory().holds(pointer, bytes) ? Place::kPinned : Place::kBroken;
    return pointer == nullptr ? Place::kBroken : Place::kPageable;
}

cudaError_t check_copy(Place target, Place source, cudaMemcpyKind kind) {
    if (target == Place::kBroken || source == Place::kBroken) return cudaErrorInvalidValue;
    const bool to_device = target == Place::kDevice, from_device = source == Place::kDevice;
    switch (kind) {
        case cudaMemcpyDefault:
            return cudaSuccess;
        case cudaMemcpyHostToHost:
            return !to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
        case cudaMemcpyHostToDevice:
            return to_device && !from_device ? cudaSuccess : cudaErrorInvalidValue;
        case cudaMemcpyDeviceToHost:
            return !to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
        case cudaMemcpyDeviceToDevice:
            return to_device && from_device ? cudaSuccess : cudaErrorInvalidValue;
    }
    return cudaErrorInvalidMemcpyDirection;
}

void copy(void* target, const void* source, std::size_t bytes) {
    std::memmove(target, source, bytes);
    if (!device_memory().holds(target, bytes)) return;
    if (device_memory().holds(source, bytes)) {
        device_memory().copy_written(target, source, bytes);  // what was not written is not written by being copied
    } else {
        device_memory().mark_written(target, bytes);
    }
}

// A copy may outlive its allocations when a graph replays it, so the places are looked at again.
cudaError_t checked_copy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
    const cudaError_t refused = check_copy(place_of(target, bytes), place_of(source, bytes), kind);
    if (refused == cudaSuccess) copy(target, source, bytes);
    return refused;
}

cudaError_t enqueue_copy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                         cudaStream_t stream) {
    if (bytes == 0) return cudaSuccess;
    const Place to = place_of(target, bytes), from = place_of(source, bytes);
    if (const cudaError_t refused = check_copy(to, from, kind); refused != cudaSuccess) return refused;
    const CUstream_st* found = emulation::find_stream(stream);
    if (found != nullptr && found->capture != nullptr && (to == Place::kPageable || from == Place::kPageable)) {
        return emulation::refuse_in_capture(cudaErrorStreamCaptureUnsupported);
    }
    return emulation::enqueue(stream,
                              {NodeKind::kCopy, nullptr, [=] { return checked_copy(target, source, bytes, kind); }});
}

cudaError_t checked_fill(void* target, int value, std::size_t bytes) {
    const Place place = place_of(target, bytes);
    if (place != Place::kDevice && place != Place::kPinned) return cudaErrorInvalidValue;
    runtime().overlapping_epoch = 0;
    std::memset(target, value, bytes);
    if (place == Place::kDevice) device_memory().mark_written(target, bytes);
    return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
    EMULATION_API_BEGIN;
    if (const cudaError_t refused = emulation::refuse_in_capture(cudaErrorStreamCaptureUnsupported))
        return remember(refused);
    return remember(allocate(device_memory(), pointer, bytes, runtime().device.memory_bytes));
}

cudaError_t cudaFree(void* pointer) { return release(device_memory(), pointer); }

// The order of a stream is that of the calls.
cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t) { return cudaMalloc(pointer, bytes); }
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t) { return cudaFree(pointer); }

cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned int) {
    EMULATION_API_BEGIN;
    if (const cudaError_t refused = emulation::refuse_in_capture(cudaErrorStreamCaptureUnsupported))
        return remember(refused);
    const cudaError_t error = allocate(pinned_memory(), pointer, bytes, pinned_memory().bytes);
    // The host writes it without our seeing: all of it counts as written.
    if (error == cudaSuccess && bytes > 0) pinned_memory().mark_written(*pointer, bytes);
    return remember(error);
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) { return cudaHostAlloc(pointer, bytes, 0); }

cudaError_t cudaFreeHost(void* pointer) { return release(pinned_memory(), pointer); }

cudaError_t cudaMemcpy(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind) {
    EMULATION_API_BEGIN;
    if (const cudaError_t refused = emulation::refuse_in_capture(cudaErrorStreamCaptureImplicit))
        return remember(refused);
    return remember(enqueue_copy(target, source, bytes, kind, nullptr));
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    EMULATION_API_BEGIN;
    return remember(enqueue_copy(target, source, bytes, kind, stream));
}

cudaError_t cudaMemcpy2DAsync(void* target, std::size_t target_pitch, const void* source, std::size_t source_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    EMULATION_API_BEGIN;
    if (width > target_pitch || width > source_pitch) return remember(cudaErrorInvalidValue);
    for (std::size_t row = 0; row < height; ++row) {
        const cudaError_t error =
            enqueue_copy(static_cast<std::byte*>(target) + row * target_pitch,
                         static_cast<const std::byte*>(source) + row * source_pitch, width, kind, stream);
        if (error != cudaSuccess) return remember(error);
    }
    return cudaSuccess;
}

cudaError_t cudaMemset(void* target, int value, std::size_t bytes) {
    EMULATION_API_BEGIN;
    if (const cudaError_t refused = emulation::refuse_in_capture(cudaErrorStreamCaptureImplicit))
        return remember(refused);
    return bytes == 0 ? cudaSuccess : remember(checked_fill(target, value, bytes));
}

cudaError_t cudaMemsetAsync(void* target, int value, std::size_t bytes, cudaStream_t stream) {
    EMULATION_API_BEGIN;
    if (bytes == 0) return cudaSuccess;
    if (place_of(target, bytes) != Place::kDevice && place_of(target, bytes) != Place::kPinned) {
        return remember(cudaErrorInvalidValue);
    }
    return remember(
        emulation::enqueue(stream, {NodeKind::kFill, nullptr, [=] { return checked_fill(target, value, bytes); }}));
}

cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) {
    EMULATION_API_BEGIN;
    *total_bytes = runtime().device.memory_bytes;
    const std::size_t used = device_memory().bytes_alive();
    *free_bytes = used < *total_bytes ? *total_bytes - used : 0;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
    EMULATION_API_BEGIN;
    void* const plain = const_cast<void*>(pointer);
    switch (place_of(pointer, 1)) {
        case Place::kDevice:
            *attributes = {cudaMemoryTypeDevice, 0, plain, nullptr};
            return cudaSuccess;
        case Place::kPinned:
            *attributes = {cudaMemoryTypeHost, 0, plain, plain};
            return cudaSuccess;
        default:
            *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, plain};
            return cudaSuccess;
    }
}
