// Streams, and the graphs that capturing streams record.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "include/cuda_runtime_api.h"
#include "include/launch.h"

namespace emulation {

enum class NodeKind : std::uint8_t { kKernel, kCopy, kFill, kHost };

// One recorded call; argument values are in the closure.
struct Node {
    NodeKind kind;
    ErasedKernel kernel;  // of a kernel node
    std::function<cudaError_t()> run;
};

}  // namespace emulation

struct CUgraph_st {
    std::vector<emulation::Node> nodes;
};

struct CUgraphExec_st {
    std::vector<emulation::Node> nodes;
};

namespace emulation {

// A capture that began on `origin`, and the streams that joined it by waiting for an event of it.
struct Capture {
    cudaStream_t origin = nullptr;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
    std::thread::id thread = std::this_thread::get_id();  // that began it
    bool valid = true;
    std::set<cudaStream_t> unjoined;
    CUgraph_st graph;
};

}  // namespace emulation

struct CUstream_st {
    unsigned int flags = 0;
    std::shared_ptr<emulation::Capture> capture;
};

namespace emulation {

// Looks the handle up: the default stream for null and its named forms, null for what is no stream.
CUstream_st* find_stream(cudaStream_t stream);

// Runs the work now, or records it where the stream captures. Fails where a stream of that kind cannot take it.
cudaError_t enqueue(cudaStream_t stream, Node node);

// The error of a call that waits for the device, or may, while something captures; it ends those captures.
cudaError_t refuse_in_capture(cudaError_t error);
bool any_capture();
// Every stream of the capture stops capturing.
void leave_capture(const Capture& capture);
void forget_captures();

}  // namespace emulation
