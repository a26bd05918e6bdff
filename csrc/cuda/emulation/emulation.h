// A GPU made of one CPU core, for tests: the project's unmodified .cu files compile with g++ against the headers in
// include/ and run on fibers, one a thread of a block.
//
// It is a checker, not a simulator of speed. While a kernel runs, every load and store of it is looked at (g++
// -fsanitize=thread puts a call before each; this library answers those calls instead of the thread sanitizer), and
// what a GPU would punish, or let pass and give wrong numbers for, becomes a Report and a sticky CUDA error:
//   - access out of bounds, after free, to host memory or another thread's stack, to a misaligned address;
//   - reads of device or shared memory that nothing has written;
//   - a barrier that not all threads of the block reach, or reach at different lines;
//   - a warp operation whose mask names lanes that exited, or does not name its caller;
//   - unordered accesses of two threads to one shared or global address, of which one writes (atomics excepted):
//   threads
//     of a block are ordered by __syncthreads, lanes by __syncwarp (shuffles order no memory), blocks by grid sync or
//     by
//     __threadfence and then an atomic operation, and launches by the stream (with programmatic serialization: only
//     after cudaGridDependencySynchronize);
//   - loops that wait for something that never comes.
// Blocks, warps and lanes take turns in an order drawn from a seed (LRENGINE_EMULATION_SEED). Of a launch that is not
// cooperative only a few blocks are there at a time, or one. Code which leans on an order fails with some seeds.
//
// It is not: memory-model exact (a fence publishes all that its block wrote; whether a block that does any atomic
// operation afterwards used the right address is not asked; a global read before another block's write is seen only
// with seeds that order them the other way round); nor bit-exact in approximate intrinsics (they are exact here);
// nor asynchronous (work is done when enqueued, so a missing event or stream synchronization goes unseen).
// __device__ variables, inline PTX, textures, clusters and dynamic parallelism do not exist.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "include/cuda_runtime_api.h"

namespace emulation {

enum class FaultKind : std::uint8_t {
    kOutOfBounds,
    kUseAfterFree,
    kHostMemory,  // a kernel at host memory, or host code of a .cu file at device memory
    kMisaligned,
    kUnwritten,
    kSharedRace,
    kGlobalRace,
    kBarrier,
    kWarpLanes,
    kTimeout,
    kTrap,
    kSharedSize,
    kInjected
};
std::string_view name_of(FaultKind kind);

struct Report {
    FaultKind kind;
    cudaError_t error;
    std::string text;  // one line: what, kernel, block, thread, address, nearest allocation
    std::string kernel;
    uint3 block{}, thread{};
    std::uintptr_t address = 0;
    std::size_t bytes = 0;
};

// The first fault since the last reset(); later calls only meet its sticky error.
std::optional<Report> last_report();

enum class FaultPolicy : std::uint8_t {
    kSticky,  // as a GPU: this call and all later ones return the error
    kThrow,   // and this call throws Fault
    kAbort    // prints the report and aborts, for a debugger
};
// The default is $LRENGINE_EMULATION_FAULT: "sticky" (also when unset), "throw" or "abort".
void set_fault_policy(FaultPolicy policy);
struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Everything as at the start of the program: the sticky error, reports, injected faults, the device, counters and
// captures are gone. Allocations live on.
void reset();

// The device that the API describes.
struct DeviceSettings {
    int count = 1;  // 0: no device
    int major = 9;
    int minor = 0;
    int multiprocessors = 16;
    int driver_version = 13000;                       // below the runtime's 13000: cudaErrorInsufficientDriver
    std::size_t memory_bytes = std::size_t{4} << 30;  // at most 16 GiB, and what the machine really has
    int l2_cache_bytes = 50 << 20;
};
void set_device(const DeviceSettings& settings);
// Starts the sequence of orders anew: the same launches after the same seed take the same turns.
void set_seed(std::uint64_t seed);

// The n-th device (or pinned) allocation from now fails, n = 1 being the next; 0 cancels.
void fail_allocation(std::uint64_t n);
// The n-th launch from now does nothing but leave a sticky error.
void fail_launch(std::uint64_t n, cudaError_t error = cudaErrorLaunchFailure);

// Bytes are those of device and pinned memory that the threads asked for, whatever a cache would have saved.
struct KernelCounters {
    std::string kernel;
    std::uint64_t launches = 0, bytes_read = 0, bytes_written = 0;
};
struct Counters {
    std::uint64_t kernel_launches = 0, graph_launches = 0, graphs_made = 0, allocations = 0;
    std::uint64_t bytes_read = 0, bytes_written = 0;
    std::size_t allocations_alive = 0, bytes_alive = 0;
};
Counters counters();
std::vector<KernelCounters> kernel_counters();
void reset_counters();  // not those of what is alive

// For host code that plays a library which computes on the GPU, and writes its results itself.
void mark_written(const void* device_memory, std::size_t bytes);
bool is_written(const void* device_memory, std::size_t bytes);

}  // namespace emulation
