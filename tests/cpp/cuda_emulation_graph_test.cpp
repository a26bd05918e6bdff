// Streams, events and graphs of the CUDA emulation.
#include "cuda/emulation/emulation.h"
#include "device_buffer.h"
#include "emulation_kernels.h"
#include "harness.h"

namespace {

struct Stream {
    Stream() { cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); }
    ~Stream() { cudaStreamDestroy(handle); }
    cudaStream_t handle = nullptr;
};

struct Event {
    Event() { cudaEventCreateWithFlags(&handle, cudaEventDefault); }
    ~Event() { cudaEventDestroy(handle); }
    cudaEvent_t handle = nullptr;
};

constexpr int kCount = 10;

// out = in + 1 + 2, with a fill before, as one graph.
cudaGraphExec_t record(const Stream& stream, const float* in, float* between, float* out) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    CHECK_EQUAL(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    CHECK_EQUAL(cudaMemsetAsync(out, 0, kCount * sizeof(float), stream.handle), cudaSuccess);
    CHECK_EQUAL(kernels::add(in, between, kCount, 1.0f, stream.handle), cudaSuccess);
    CHECK_EQUAL(kernels::add(between, out, kCount, 2.0f, stream.handle), cudaSuccess);
    CHECK_EQUAL(cudaStreamEndCapture(stream.handle, &graph), cudaSuccess);
    std::size_t nodes = 0;
    CHECK_EQUAL(cudaGraphGetNodes(graph, nullptr, &nodes), cudaSuccess);
    CHECK_EQUAL(nodes, 3u);
    CHECK_EQUAL(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
    return executable;
}

}  // namespace

TEST(emulation_graph_replays_with_new_inputs) {
    emulation::reset();
    const Stream stream;
    DeviceBuffer<float> in(std::vector<float>(kCount, 1.0f)), between(kCount), out(kCount);
    cudaGraphExec_t executable = record(stream, in.data(), between.data(), out.data());
    CHECK_EQUAL(emulation::counters().kernel_launches, 0u);  // nothing has run yet
    for (const float value : {1.0f, 5.0f}) {
        in.assign(std::vector<float>(kCount, value));
        CHECK_EQUAL(cudaGraphLaunch(executable, stream.handle), cudaSuccess);
        CHECK_EQUAL(cudaStreamSynchronize(stream.handle), cudaSuccess);
        CHECK(out.fetch() == std::vector<float>(kCount, value + 3.0f));
    }
    CHECK_EQUAL(emulation::counters().graph_launches, 2u);
    CHECK_EQUAL(emulation::counters().kernel_launches, 4u);
    CHECK_EQUAL(cudaGraphExecDestroy(executable), cudaSuccess);
    CHECK_EQUAL(cudaGraphExecDestroy(executable), cudaErrorInvalidValue);
    CHECK(!emulation::last_report().has_value());
}

TEST(emulation_graph_can_be_updated_with_the_same_calls) {
    emulation::reset();
    const Stream stream;
    DeviceBuffer<float> in(std::vector<float>(kCount, 1.0f)), out(kCount);
    const auto capture = [&](float value, int calls) {
        cudaGraph_t graph = nullptr;
        cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeGlobal);
        for (int i = 0; i < calls; ++i) kernels::add(in.data(), out.data(), kCount, value, stream.handle);
        CHECK_EQUAL(cudaStreamEndCapture(stream.handle, &graph), cudaSuccess);
        return graph;
    };
    cudaGraph_t first = capture(1.0f, 1), second = capture(7.0f, 1), longer = capture(7.0f, 2);
    cudaGraphExec_t executable = nullptr;
    CHECK_EQUAL(cudaGraphInstantiate(&executable, first, 0), cudaSuccess);
    cudaGraphExecUpdateResultInfo info{};
    CHECK_EQUAL(cudaGraphExecUpdate(executable, longer, &info), cudaErrorGraphExecUpdateFailure);
    CHECK_EQUAL(info.result, cudaGraphExecUpdateErrorTopologyChanged);
    CHECK_EQUAL(cudaGraphExecUpdate(executable, second, &info), cudaSuccess);
    CHECK_EQUAL(cudaGraphLaunch(executable, stream.handle), cudaSuccess);
    CHECK_EQUAL(out.fetch()[0], 8.0f);
    for (cudaGraph_t graph : {first, second, longer}) CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
    CHECK_EQUAL(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST(emulation_capture_is_ended_by_what_it_forbids) {
    DeviceBuffer<float> memory(kCount);
    float host[kCount] = {};
    const auto forbidden = [&](int which, const Stream& stream) {
        void* allocated = nullptr;
        switch (which) {
            case 0:
                return cudaStreamSynchronize(stream.handle);
            case 1:
                return cudaMalloc(&allocated, 4);
            case 2:
                return cudaDeviceSynchronize();
            case 3:
                return cudaMemcpy(memory.data(), host, sizeof(host), cudaMemcpyHostToDevice);
            case 4:
                return cudaMemcpyAsync(memory.data(), host, sizeof(host), cudaMemcpyHostToDevice, stream.handle);
            default:
                return cudaMemsetAsync(memory.data(), 0, 4, nullptr);
        }
    };
    for (int which = 0; which < 6; ++which) {
        emulation::reset();
        const Stream stream;
        cudaGraph_t graph = nullptr;
        cudaStreamCaptureStatus status{};
        CHECK_EQUAL(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeGlobal), cudaSuccess);
        CHECK_EQUAL(forbidden(which, stream),
                    which == 3 || which == 5 ? cudaErrorStreamCaptureImplicit : cudaErrorStreamCaptureUnsupported);
        CHECK_EQUAL(cudaStreamIsCapturing(stream.handle, &status), cudaSuccess);
        CHECK_EQUAL(status, cudaStreamCaptureStatusInvalidated);
        CHECK_EQUAL(cudaMemsetAsync(memory.data(), 0, 4, stream.handle), cudaErrorStreamCaptureInvalidated);
        CHECK_EQUAL(cudaStreamEndCapture(stream.handle, &graph), cudaErrorStreamCaptureInvalidated);
        CHECK(graph == nullptr);
        CHECK_EQUAL(cudaStreamSynchronize(stream.handle), cudaSuccess);
    }
}

TEST(emulation_second_stream_joins_a_capture_by_an_event) {
    for (const bool joined : {true, false}) {
        emulation::reset();
        const Stream first, second;
        const Event fork, join;
        DeviceBuffer<float> in(std::vector<float>(kCount, 1.0f)), out(kCount);
        cudaGraph_t graph = nullptr;
        CHECK_EQUAL(cudaStreamBeginCapture(first.handle, cudaStreamCaptureModeGlobal), cudaSuccess);
        CHECK_EQUAL(cudaEventRecord(fork.handle, first.handle), cudaSuccess);
        CHECK_EQUAL(cudaStreamWaitEvent(second.handle, fork.handle, 0), cudaSuccess);
        CHECK_EQUAL(kernels::add(in.data(), out.data(), kCount, 1.0f, second.handle), cudaSuccess);
        CHECK_EQUAL(cudaEventSynchronize(fork.handle), cudaErrorCapturedEvent);
        if (joined) {
            CHECK_EQUAL(cudaEventRecord(join.handle, second.handle), cudaSuccess);
            CHECK_EQUAL(cudaStreamWaitEvent(first.handle, join.handle, 0), cudaSuccess);
        }
        CHECK_EQUAL(cudaStreamEndCapture(first.handle, &graph), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        if (joined) {
            CHECK_EQUAL(cudaGraphDestroy(graph), cudaSuccess);
        }
        CHECK_EQUAL(cudaStreamQuery(second.handle), cudaSuccess);
    }
}

TEST(emulation_events_time_what_lies_between) {
    emulation::reset();
    const Stream stream;
    const Event start, end;
    float milliseconds = -1.0f;
    CHECK_EQUAL(cudaEventElapsedTime(&milliseconds, start.handle, end.handle), cudaErrorInvalidResourceHandle);
    CHECK_EQUAL(cudaEventRecord(start.handle, stream.handle), cudaSuccess);
    CHECK_EQUAL(kernels::empty(20, 256, 0), cudaSuccess);
    CHECK_EQUAL(cudaEventRecord(end.handle, stream.handle), cudaSuccess);
    CHECK_EQUAL(cudaEventSynchronize(end.handle), cudaSuccess);
    CHECK_EQUAL(cudaEventElapsedTime(&milliseconds, start.handle, end.handle), cudaSuccess);
    CHECK(milliseconds > 0.0f && milliseconds < 1000.0f);
    CHECK_EQUAL(cudaStreamSynchronize(reinterpret_cast<cudaStream_t>(std::uintptr_t{99})),
                cudaErrorInvalidResourceHandle);
}
