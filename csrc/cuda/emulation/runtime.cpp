#include "runtime.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "capture.h"
#include "device_memory.h"

namespace emulation {

namespace {

FaultPolicy policy_from_environment() {
    const char* value = std::getenv("LRENGINE_EMULATION_FAULT");
    const std::string_view name = value != nullptr ? value : "";
    if (name == "throw") return FaultPolicy::kThrow;
    return name == "abort" ? FaultPolicy::kAbort : FaultPolicy::kSticky;
}

std::uint64_t seed_from_environment() {
    const char* value = std::getenv("LRENGINE_EMULATION_SEED");
    return value != nullptr ? std::strtoull(value, nullptr, 10) : 1;
}

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

Runtime& runtime() {
    static Runtime& state = *[] {
        auto* made = new Runtime;  // never destroyed: static objects of the program may call the API at exit
        made->policy = policy_from_environment();
        made->seed = seed_from_environment();
        return made;
    }();
    return state;
}

std::string_view name_of(FaultKind kind) {
    switch (kind) {
        case FaultKind::kOutOfBounds:
            return "out of bounds";
        case FaultKind::kUseAfterFree:
            return "use after free";
        case FaultKind::kHostMemory:
            return "host memory";
        case FaultKind::kMisaligned:
            return "misaligned";
        case FaultKind::kUnwritten:
            return "unwritten memory";
        case FaultKind::kSharedRace:
            return "race in shared memory";
        case FaultKind::kGlobalRace:
            return "race in device memory";
        case FaultKind::kBarrier:
            return "barrier";
        case FaultKind::kWarpLanes:
            return "warp lanes";
        case FaultKind::kTimeout:
            return "timeout";
        case FaultKind::kTrap:
            return "trap";
        case FaultKind::kSharedSize:
            return "shared memory size";
        case FaultKind::kInjected:
            return "injected";
    }
    return "unknown";
}

void record_fault(Report report) {
    Runtime& state = runtime();
    if (state.sticky != cudaSuccess) return;
    state.sticky = report.error;
    state.report = std::move(report);
}

cudaError_t settle(cudaError_t error) {
    const Runtime& state = runtime();
    if (state.sticky != cudaSuccess && state.report.has_value()) {
        if (state.policy == FaultPolicy::kThrow) throw Fault(state.report->text);
        if (state.policy == FaultPolicy::kAbort) {
            std::fprintf(stderr, "%s\n", state.report->text.c_str());
            std::abort();
        }
    }
    return remember(error);
}

cudaError_t remember(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

cudaError_t take_last_error(bool clear) {
    const Lock lock(runtime().mutex);
    if (runtime().sticky != cudaSuccess) return runtime().sticky;
    const cudaError_t error = last_error;
    if (clear) last_error = cudaSuccess;
    return error;
}

cudaError_t check_device() {
    const Runtime& state = runtime();
    if (state.device.driver_version < CUDART_VERSION) return cudaErrorInsufficientDriver;
    if (state.device.count == 0) return cudaErrorNoDevice;
    return state.sticky;
}

Function& function_of(ErasedKernel kernel) {
    Function& function = runtime().functions[kernel];
    if (function.name.empty()) {
        function.name = symbol_at(reinterpret_cast<const void*>(kernel));
        function.counters.kernel = function.name;
    }
    return function;
}

std::optional<Report> last_report() {
    const Lock lock(runtime().mutex);
    return runtime().report;
}

void set_fault_policy(FaultPolicy policy) {
    const Lock lock(runtime().mutex);
    runtime().policy = policy;
}

void set_device(const DeviceSettings& settings) {
    const Lock lock(runtime().mutex);
    runtime().device = settings;
}

void set_seed(std::uint64_t seed) {
    const Lock lock(runtime().mutex);
    runtime().seed = seed;
    runtime().launches_since_seed = 0;
}

void fail_allocation(std::uint64_t n) {
    const Lock lock(runtime().mutex);
    runtime().allocations_until_failure = n;
}

void fail_launch(std::uint64_t n, cudaError_t error) {
    const Lock lock(runtime().mutex);
    runtime().launches_until_failure = n;
    runtime().launch_failure = error;
}

void reset() {
    const Lock lock(runtime().mutex);
    Runtime& state = runtime();
    forget_captures();
    state.device = {};
    state.policy = policy_from_environment();
    state.seed = seed_from_environment();
    state.launches_since_seed = 0;
    state.report.reset();
    state.sticky = last_error = cudaSuccess;
    state.allocations_until_failure = state.launches_until_failure = 0;
    for (auto& [kernel, function] : state.functions) function.dynamic_limit = kSharedDefault;
    reset_counters();
}

Counters counters() {
    const Lock lock(runtime().mutex);
    Counters now = runtime().counters;
    now.allocations_alive = device_memory().alive() + pinned_memory().alive();
    now.bytes_alive = device_memory().bytes_alive() + pinned_memory().bytes_alive();
    return now;
}

std::vector<KernelCounters> kernel_counters() {
    const Lock lock(runtime().mutex);
    std::vector<KernelCounters> all;
    for (const auto& [kernel, function] : runtime().functions) {
        if (function.counters.launches > 0) all.push_back(function.counters);
    }
    return all;
}

void reset_counters() {
    const Lock lock(runtime().mutex);
    runtime().counters = {};
    for (auto& [kernel, function] : runtime().functions) function.counters = {function.name, 0, 0, 0};
}

void mark_written(const void* memory, std::size_t bytes) {
    const Lock lock(runtime().mutex);
    if (device_memory().holds(memory, bytes)) device_memory().mark_written(memory, bytes);
}

bool is_written(const void* memory, std::size_t bytes) {
    const Lock lock(runtime().mutex);
    return device_memory().holds(memory, bytes) && device_memory().is_written(memory, bytes);
}

}  // namespace emulation
