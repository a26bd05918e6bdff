// threadIdx and its kin, the block's barriers, fences and clocks.
#pragma once

#include <cstdint>
#include <source_location>

#include "../vector_types.h"

// The emulation rewrites these whenever it resumes a thread. To the compiler they are constants, which they are for as
// long as one thread lives; so it neither instruments nor repeats their loads.
extern const uint3 threadIdx __asm__("emulation_thread_index");
extern const uint3 blockIdx __asm__("emulation_block_index");
extern const dim3 blockDim __asm__("emulation_block_dim");
extern const dim3 gridDim __asm__("emulation_grid_dim");
inline constexpr int warpSize = 32;

namespace emulation {

enum class BarrierKind : std::uint8_t { kPlain, kCount, kAnd, kOr };

// Waits for the whole block; returns the reduction of `predicate` that `kind` names. A thread of the block that exits,
// or waits at another line, is a fault.
int block_barrier(BarrierKind kind, int predicate, const std::source_location& where);
void grid_barrier(const std::source_location& where);
void fence();
void yield_thread();
void wait_for_launch_before();

// Where the block's variable declared at `site` lies; the first thread to ask makes it.
void* static_shared(const void* site, std::size_t bytes, std::size_t alignment);
void* dynamic_shared();

}  // namespace emulation

// The default argument is how a report can name the line of a barrier.
using EmulationWhere = std::source_location;

inline void __syncthreads(const EmulationWhere& where = EmulationWhere::current()) {
    emulation::block_barrier(emulation::BarrierKind::kPlain, 0, where);
}
inline int __syncthreads_count(int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::block_barrier(emulation::BarrierKind::kCount, predicate, where);
}
inline int __syncthreads_and(int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::block_barrier(emulation::BarrierKind::kAnd, predicate, where);
}
inline int __syncthreads_or(int predicate, const EmulationWhere& where = EmulationWhere::current()) {
    return emulation::block_barrier(emulation::BarrierKind::kOr, predicate, where);
}

inline void __threadfence() { emulation::fence(); }
inline void __threadfence_system() { emulation::fence(); }
// Threads of one block run one after another: their memory is always in order.
inline void __threadfence_block() {}

inline void __nanosleep(unsigned int) { emulation::yield_thread(); }
long long clock64();
inline long long int __clock() { return clock64(); }
unsigned long long __globaltimer();

// Programmatic dependent launch: what the launch before wrote may be read only after this.
inline void cudaGridDependencySynchronize() { emulation::wait_for_launch_before(); }
inline void cudaTriggerProgrammaticLaunchCompletion() {}

[[noreturn]] void __trap();
