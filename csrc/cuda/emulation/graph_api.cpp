// Capture, instantiation and replay. A graph is the list of its calls in the order in which they were recorded.
#include <memory>
#include <unordered_map>

#include "capture.h"
#include "runtime.h"

using emulation::Capture;
using emulation::Lock;
using emulation::Node;
using emulation::remember;
using emulation::runtime;

namespace {

template <typename T>
std::unordered_map<T*, std::unique_ptr<T>>& handles() {
    static auto& all = *new std::unordered_map<T*, std::unique_ptr<T>>;
    return all;
}

template <typename T>
T* keep(std::unique_ptr<T> made) {
    T* handle = made.get();
    handles<T>().emplace(handle, std::move(made));
    return handle;
}

template <typename T>
bool is_handle(T* handle) {
    return handles<T>().contains(handle);
}

bool is_legacy(cudaStream_t stream) { return emulation::find_stream(stream) == emulation::find_stream(nullptr); }

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
    EMULATION_API_BEGIN;
    CUstream_st* stream = emulation::find_stream(handle);
    if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
    if (is_legacy(handle)) return remember(cudaErrorStreamCaptureUnsupported);
    if (stream->capture != nullptr) return remember(cudaErrorInvalidValue);
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = handle;
    stream->capture->mode = mode;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
    EMULATION_API_BEGIN;
    if (graph == nullptr) return remember(cudaErrorInvalidValue);
    *graph = nullptr;
    CUstream_st* stream = emulation::find_stream(handle);
    if (stream == nullptr) return remember(cudaErrorInvalidResourceHandle);
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture == nullptr) return remember(cudaErrorInvalidValue);
    if (capture->origin != handle) {
        capture->valid = false;
        return remember(cudaErrorStreamCaptureUnmatched);
    }
    const bool unjoined = !capture->unjoined.empty();
    emulation::leave_capture(*capture);
    if (!capture->valid) return remember(cudaErrorStreamCaptureInvalidated);
    if (unjoined) return remember(cudaErrorStreamCaptureUnjoined);
    *graph = keep(std::make_unique<CUgraph_st>(std::move(capture->graph)));
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
    EMULATION_API_BEGIN;
    const CUstream_st* stream = emulation::find_stream(handle);
    if (stream == nullptr || status == nullptr) return remember(cudaErrorInvalidValue);
    *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
              : stream->capture->valid   ? cudaStreamCaptureStatusActive
                                         : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    EMULATION_API_BEGIN;
    if (executable == nullptr || !is_handle(graph)) return remember(cudaErrorInvalidValue);
    *executable = keep(std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->nodes}));
    runtime().counters.graphs_made++;
    return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph, cudaGraphExecUpdateResultInfo* info) {
    EMULATION_API_BEGIN;
    if (!is_handle(executable) || !is_handle(graph)) return remember(cudaErrorInvalidValue);
    const std::vector<Node>&old_nodes = executable->nodes, &new_nodes = graph->nodes;
    cudaGraphExecUpdateResult result = cudaGraphExecUpdateSuccess;
    if (old_nodes.size() != new_nodes.size()) result = cudaGraphExecUpdateErrorTopologyChanged;
    for (std::size_t i = 0; i < new_nodes.size() && result == cudaGraphExecUpdateSuccess; ++i) {
        if (old_nodes[i].kind != new_nodes[i].kind) result = cudaGraphExecUpdateErrorNodeTypeChanged;
        if (old_nodes[i].kernel != new_nodes[i].kernel) result = cudaGraphExecUpdateErrorFunctionChanged;
    }
    if (info != nullptr) *info = {result, nullptr, nullptr};
    if (result != cudaGraphExecUpdateSuccess) return remember(cudaErrorGraphExecUpdateFailure);
    executable->nodes = graph->nodes;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    EMULATION_API_BEGIN;
    if (!is_handle(executable)) return remember(cudaErrorInvalidValue);
    const CUstream_st* found = emulation::find_stream(stream);
    if (found == nullptr) return remember(cudaErrorInvalidResourceHandle);
    if (found->capture != nullptr) return remember(emulation::refuse_in_capture(cudaErrorNotSupported));
    runtime().counters.graph_launches++;
    for (const Node& node : executable->nodes) {
        const cudaError_t error = emulation::enqueue(stream, node);
        if (error != cudaSuccess) return emulation::settle(error);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
    EMULATION_API_BEGIN;
    return remember(is_handle(executable) ? cudaSuccess : cudaErrorInvalidValue);
}

// Only the count: nodes have no handles.
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, std::size_t* count) {
    EMULATION_API_BEGIN;
    if (!is_handle(graph) || count == nullptr) return remember(cudaErrorInvalidValue);
    if (nodes != nullptr) return remember(cudaErrorNotSupported);
    *count = graph->nodes.size();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    const Lock lock(runtime().mutex);
    return remember(handles<CUgraph_st>().erase(graph) > 0 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    const Lock lock(runtime().mutex);
    return remember(handles<CUgraphExec_st>().erase(executable) > 0 ? cudaSuccess : cudaErrorInvalidValue);
}
