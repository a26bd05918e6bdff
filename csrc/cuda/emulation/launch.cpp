// The checks of a launch, the launch itself, and what depends on a kernel's resources.
#include <algorithm>

#include "capture.h"
#include "execution.h"
#include "runtime.h"

namespace emulation {

namespace {

constexpr unsigned kThreadsOfMultiprocessor = 2048, kBlocksOfMultiprocessor = 32;

struct Attributes {
    bool cooperative = false, overlaps_launch_before = false;
};

Attributes attributes_of(const cudaLaunchConfig_t& config) {
    Attributes found;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        const cudaLaunchAttribute& attribute = config.attrs[i];
        if (attribute.id == cudaLaunchAttributeCooperative) found.cooperative = attribute.val.cooperative != 0;
        if (attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization) {
            found.overlaps_launch_before = attribute.val.programmaticStreamSerializationAllowed != 0;
        }
    }
    return found;
}

int resident_blocks(const Function& function, std::size_t threads, std::size_t dynamic_bytes) {
    const std::size_t rounded = (threads + 31) / 32 * 32;
    const std::size_t shared = dynamic_bytes + function.static_bytes + kSharedReserved;
    const std::size_t by_threads = kThreadsOfMultiprocessor / rounded, by_shared = kSharedOfMultiprocessor / shared;
    return static_cast<int>(std::min({by_threads, by_shared, std::size_t{kBlocksOfMultiprocessor}}));
}

cudaError_t check_configuration(const cudaLaunchConfig_t& config, const Function& function, bool cooperative) {
    const auto& [grid, block] = std::pair(config.gridDim, config.blockDim);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) {
        return cudaErrorInvalidConfiguration;
    }
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
    if (block.x > 1024 || block.y > 1024 || block.z > 64) return cudaErrorInvalidConfiguration;
    const std::size_t threads = std::size_t{block.x} * block.y * block.z;
    if (threads > 1024) return cudaErrorInvalidConfiguration;
    if (config.dynamicSmemBytes + function.static_bytes > function.dynamic_limit) return cudaErrorInvalidValue;
    if (runtime().device.major < 8) return cudaErrorNoKernelImageForDevice;  // the project compiles for 8.0 and up
    if (cooperative) {
        const auto room = static_cast<std::size_t>(resident_blocks(function, threads, config.dynamicSmemBytes)) *
                          static_cast<std::size_t>(runtime().device.multiprocessors);
        if (std::size_t{grid.x} * grid.y * grid.z > room) return cudaErrorCooperativeLaunchTooLarge;
    }
    return cudaSuccess;
}

bool launch_fails() {
    Runtime& state = runtime();
    if (state.launches_until_failure == 0 || --state.launches_until_failure > 0) return false;
    Report report{FaultKind::kInjected, state.launch_failure, "injected: this launch fails", {}, {}, {}, 0, 0};
    record_fault(std::move(report));
    return true;
}

cudaError_t run_kernel(const KernelCall& call, dim3 grid, dim3 block, std::size_t dynamic_bytes,
                       Attributes attributes) {
    Runtime& state = runtime();
    if (state.sticky != cudaSuccess || launch_fails()) return state.sticky;
    Function& function = function_of(call.kernel);
    const std::uint32_t epoch = next_epoch();
    Run run(state.seed * 1'000'003 + state.launches_since_seed++);
    run.call = &call;
    for (const std::size_t offset : call.offsets) {
        run.arguments.push_back(const_cast<std::max_align_t*>(call.values.data()) + offset);
    }
    run.kernel = function.name;
    run.cooperative = attributes.cooperative;
    run.first_epoch = run.launch_epoch = epoch;
    if (attributes.overlaps_launch_before) run.previous_first_epoch = state.overlapping_epoch;
    run_grid(run, grid, block, dynamic_bytes, &function.static_bytes);
    state.overlapping_epoch = run.first_epoch;
    state.counters.kernel_launches++;
    state.counters.bytes_read += run.bytes_read;
    state.counters.bytes_written += run.bytes_written;
    function.counters.launches++;
    function.counters.bytes_read += run.bytes_read;
    function.counters.bytes_written += run.bytes_written;
    return state.sticky;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const KernelCall& call) {
    EMULATION_API_BEGIN;
    const Attributes attributes = attributes_of(config);
    const cudaError_t refused = check_configuration(config, function_of(call.kernel), attributes.cooperative);
    if (refused != cudaSuccess) return remember(refused);
    const dim3 grid = config.gridDim, block = config.blockDim;
    const std::size_t dynamic_bytes = config.dynamicSmemBytes;
    CUstream_st* stream = find_stream(config.stream);
    if (stream != nullptr && stream->capture == nullptr && !any_capture()) {
        return settle(run_kernel(call, grid, block, dynamic_bytes, attributes));  // without copying the arguments
    }
    return settle(
        enqueue(config.stream, {NodeKind::kKernel, call.kernel, [call, grid, block, dynamic_bytes, attributes] {
                                    return run_kernel(call, grid, block, dynamic_bytes, attributes);
                                }}));
}

cudaError_t occupancy(int* blocks, ErasedKernel kernel, int threads, std::size_t dynamic_bytes) {
    EMULATION_API_BEGIN;
    if (blocks == nullptr || kernel == nullptr || threads < 1) return remember(cudaErrorInvalidValue);
    *blocks =
        threads > 1024 ? 0 : resident_blocks(function_of(kernel), static_cast<std::size_t>(threads), dynamic_bytes);
    return cudaSuccess;
}

cudaError_t set_function_attribute(ErasedKernel kernel, cudaFuncAttribute attribute, int value) {
    EMULATION_API_BEGIN;
    if (kernel == nullptr) return remember(cudaErrorInvalidValue);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    Function& function = function_of(kernel);
    if (value < 0 || static_cast<std::size_t>(value) + function.static_bytes > kSharedOptIn) {
        return remember(cudaErrorInvalidValue);
    }
    // As there, a smaller opt-in does not take the default away.
    function.dynamic_limit = std::max(kSharedDefault, static_cast<std::size_t>(value) + function.static_bytes);
    return cudaSuccess;
}

}  // namespace emulation
