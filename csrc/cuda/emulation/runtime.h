// The state behind the host API: one device, errors, injected faults and counters. Callers hold the lock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "emulation.h"
#include "include/launch.h"

namespace emulation {

inline constexpr std::size_t kSharedDefault = 48 * 1024, kSharedOptIn = 227 * 1024,
                             kSharedOfMultiprocessor = 228 * 1024, kSharedReserved = 1024;

struct Function {
    std::string name;
    std::size_t dynamic_limit = kSharedDefault;
    std::size_t static_bytes = 0;  // known after the first launch
    KernelCounters counters;
};

struct Runtime {
    std::recursive_mutex mutex;
    DeviceSettings device;
    FaultPolicy policy;
    std::uint64_t seed;
    std::optional<Report> report;
    cudaError_t sticky = cudaSuccess;
    std::uint64_t allocations_until_failure = 0, launches_until_failure = 0;
    cudaError_t launch_failure = cudaErrorLaunchFailure;
    Counters counters;
    std::map<ErasedKernel, Function> functions;
    std::uint64_t launches_since_seed = 0;
    // The first epoch of the launch before, with which the next may overlap; 0 where something else came since.
    std::uint32_t overlapping_epoch = 0;
};
Runtime& runtime();

using Lock = std::lock_guard<std::recursive_mutex>;

// Keeps the first report and makes its error sticky.
void record_fault(Report report);
// Throws or aborts where the policy says so and `error` comes from a fault.
cudaError_t settle(cudaError_t error);
// Remembers an error for cudaGetLastError, unless it is cudaSuccess; returns it.
cudaError_t remember(cudaError_t error);
// What cudaGetLastError (`clear`) and cudaPeekAtLastError say.
cudaError_t take_last_error(bool clear);
// The error that every call meets: no device, an old driver, or the sticky one.
cudaError_t check_device();

Function& function_of(ErasedKernel kernel);
// What the symbol tables say about an address: "name", or "module+0x12" where they say nothing.
std::string symbol_at(const void* address);

}  // namespace emulation

// The first lines of an API function.
#define EMULATION_API_BEGIN                                 \
    const emulation::Lock lock(emulation::runtime().mutex); \
    if (const cudaError_t broken = emulation::check_device(); broken != cudaSuccess) return emulation::remember(broken)
