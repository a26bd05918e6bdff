// Streams and events. Work is done when enqueued, so a stream is idle and an event has happened, unless capturing.
#include <chrono>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "capture.h"
#include "runtime.h"

using emulation::Capture;
using emulation::Lock;
using emulation::remember;
using emulation::runtime;

struct CUevent_st {
    unsigned int flags = 0;
    bool recorded = false;
    std::chrono::steady_clock::time_point time;
    std::weak_ptr<Capture> capture;  // of the capturing stream it was last recorded in
    cudaStream_t stream = nullptr;
    bool captured = false;
};

namespace {

std::unordered_map<cudaStream_t, std::unique_ptr<CUstream_st>>& streams() {
    static auto& all = *new std::unordered_map<cudaStream_t, std::unique_ptr<CUstream_st>>;
    return all;
}

std::unordered_map<cudaEvent_t, std::unique_ptr<CUevent_st>>& events() {
    static auto& all = *new std::unordered_map<cudaEvent_t, std::unique_ptr<CUevent_st>>;
    return all;
}

CUevent_st* find_event(cudaEvent_t event) {
    const auto found = events().find(event);
    return found != events().end() ? found->second.get() : nullptr;
}

// Waiting for a stream that captures, or for anything while a capture forbids it.
cudaError_t check_idle(cudaStream_t stream) {
    const CUstream_st* found = emulation::find_stream(stream);
    if (found == nullptr) return cudaErrorInvalidResourceHandle;
    runtime().overlapping_epoch = 0;
    if (found->capture == nullptr) {
        const bool legacy = stream == nullptr || stream == cudaStreamLegacy;
        return legacy ? emulation::refuse_in_capture(cudaErrorStreamCaptureImplicit) : cudaSuccess;
    }
    found->capture->valid = false;
    return cudaErrorStreamCaptureUnsupported;
}

}  // namespace

namespace emulation {

CUstream_st* find_stream(cudaStream_t stream) {
    static CUstream_st legacy, per_thread;
    if (stream == nullptr || stream == cudaStreamLegacy) return &legacy;
    if (stream == cudaStreamPerThread) return &per_thread;
    const auto found = streams().find(stream);
    return found != streams().end() ? found->second.get() : nullptr;
}

bool any_capture() {
    for (const auto& [handle, stream] : streams()) {
        if (stream->capture != nullptr) return true;
    }
    return find_stream(cudaStreamPerThread)->capture != nullptr;
}

cudaError_t refuse_in_capture(cudaError_t error) {
    bool refused = false;
    const auto refuse = [&](CUstream_st& stream) {
        if (stream.capture == nullptr || stream.capture->mode == cudaStreamCaptureModeRelaxed) return;
        // What a call would break by waiting (not by a dependency), a thread may do while others capture.
        const bool of_other_thread = stream.capture->mode == cudaStreamCaptureModeThreadLocal &&
                                     stream.capture->thread != std::this_thread::get_id();
        if (of_other_thread && error == cudaErrorStreamCaptureUnsupported) return;
        stream.capture->valid = false;
        refused = true;
    };
    for (const auto& [handle, stream] : streams()) refuse(*stream);
    refuse(*find_stream(cudaStreamPerThread));
    return refused ? error : cudaSuccess;
}

void leave_capture(const Capture& capture) {
    const auto leave = [&](CUstream_st& stream) {
        if (stream.capture.get() == &capture) stream.capture = nullptr;
    };
    for (const auto& [handle, stream] : streams()) leave(*stream);
    leave(*find_stream(cudaStreamPerThread));
}

void forget_captures() {
    for (const auto& [handle, stream] : streams()) stream->capture = nullptr;
    find_stream(cudaStreamPerThread)->capture = nullptr;
}

cudaError_t enqueue(cudaStream_t handle, Node node) {
    CUstream_st* stream = find_stream(handle);
    if (stream == nullptr) return cudaErrorInvalidResourceHandle;
    if (stream->capture != nullptr) {
        if (!stream->capture->valid) return cudaErrorStreamCaptureInvalidated;
        stream->capture->graph.nodes.push_back(std::move(node));
        return cudaSuccess;
    }
    const bool legacy = stream == find_stream(nullptr);
    if (legacy) {
        // The legacy stream waits for every blocking stream, which a capture cannot be waited for.
        if (const cudaError_t refused = refuse_in_capture(cudaErrorStreamCaptureImplicit)) return refused;
    }
    // Only kernels that follow each other directly overlap.
    if (node.kind != NodeKind::kKernel) runtime().overlapping_epoch = 0;
    return node.run();
}

}  // namespace emulation

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
    EMULATION_API_BEGIN;
    if (stream == nullptr || flags > cudaStreamNonBlocking) return remember(cudaErrorInvalidValue);
    auto made = std::make_unique<CUstream_st>();
    made->flags = flags;
    *stream = made.get();
    streams().emplace(*stream, std::move(made));
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
    EMULATION_API_BEGIN;
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

// Works after a sticky error too, so that owners can clean up.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    const Lock lock(runtime().mutex);
    if (streams().erase(stream) == 0) return remember(cudaErrorInvalidResourceHandle);
    return remember(emulation::check_device());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    EMULATION_API_BEGIN;
    return remember(check_idle(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
    EMULATION_API_BEGIN;
    return remember(check_idle(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned int) {
    EMULATION_API_BEGIN;
    CUstream_st* stream = emulation::find_stream(handle);
    const CUevent_st* awaited = find_event(event);
    if (stream == nullptr || awaited == nullptr) return remember(cudaErrorInvalidResourceHandle);
    const std::shared_ptr<Capture> capture = awaited->captured ? awaited->capture.lock() : nullptr;
    if (capture == nullptr) {
        if (awaited->captured) return remember(cudaErrorCapturedEvent);
        runtime().overlapping_epoch = 0;
        if (stream->capture == nullptr || !awaited->recorded) return cudaSuccess;
        stream->capture->valid = false;  // a graph cannot wait for work outside of it
        return remember(cudaErrorStreamCaptureIsolation);
    }
    if (stream->capture != nullptr && stream->capture != capture) return remember(cudaErrorStreamCaptureMerge);
    if (stream->capture == nullptr) {
        stream->capture = capture;
        capture->unjoined.insert(handle);
    } else {
        capture->unjoined.erase(awaited->stream);
    }
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, void (*function)(void*), void* data) {
    EMULATION_API_BEGIN;
    if (function == nullptr) return remember(cudaErrorInvalidValue);
    return remember(emulation::enqueue(stream, {emulation::NodeKind::kHost, nullptr, [=] {
                                                    function(data);
                                                    return cudaSuccess;
                                                }}));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
    EMULATION_API_BEGIN;
    if (event == nullptr) return remember(cudaErrorInvalidValue);
    auto made = std::make_unique<CUevent_st>();
    made->flags = flags;
    *event = made.get();
    events().emplace(*event, std::move(made));
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    const Lock lock(runtime().mutex);
    if (events().erase(event) == 0) return remember(cudaErrorInvalidResourceHandle);
    return remember(emulation::check_device());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
    EMULATION_API_BEGIN;
    CUstream_st* stream = emulation::find_stream(handle);
    CUevent_st* record = find_event(event);
    if (stream == nullptr || record == nullptr) return remember(cudaErrorInvalidResourceHandle);
    record->captured = stream->capture != nullptr;
    record->capture = stream->capture;
    record->stream = handle;
    record->recorded = true;
    record->time = std::chrono::steady_clock::now();
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    EMULATION_API_BEGIN;
    const CUevent_st* record = find_event(event);
    if (record == nullptr) return remember(cudaErrorInvalidResourceHandle);
    runtime().overlapping_epoch = 0;
    return remember(record->captured ? cudaErrorCapturedEvent : cudaSuccess);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return cudaEventQuery(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
    EMULATION_API_BEGIN;
    const CUevent_st *first = find_event(start), *last = find_event(end);
    if (first == nullptr || last == nullptr || !first->recorded || !last->recorded || first->captured ||
        last->captured || ((first->flags | last->flags) & cudaEventDisableTiming)) {
        return remember(cudaErrorInvalidResourceHandle);
    }
    *milliseconds = std::chrono::duration<float, std::milli>(last->time - first->time).count();
    return cudaSuccess;
}
