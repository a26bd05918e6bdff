// Two dependent halves in one launch: no block begins the second half before all of the first is done.
//
// This is no barrier of the grid, which would need all blocks to be resident at once (a cooperative launch; NVIDIA does
// not say whether one may also start early, as wait_for_previous_kernels() has it). Here blocks claim the parts of the
// first half from a counter, for as long as there are any, and only then wait for what others have claimed. Whoever
// claims a part runs already and waits for nobody while it works on it, so it comes to an end: CUDA promises progress
// to threads that have begun (its execution model: parallel forward progress). It holds with one resident block, beside
// other streams, and in graphs.
//
// Cost: three atomic operations a block, of which only the completion of the slowest part is waited for, and
// reads of one word until it is there. The claim goes out before the kernel ahead has ended.
#pragma once

#include "cuda/device.cuh"
#include "cuda/relay.h"

namespace lrengine::cuda {

// Adds one to a counter in order: what the block wrote before its last barrier is visible to whoever sees the new
// count, and what went into the old count to this block after its next barrier. Returns the old count.
__device__ __forceinline__ unsigned add_in_order(unsigned* counter) {
#if defined(__CUDA_ARCH__)
    unsigned before;
    asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
    return before;
#else
    __threadfence();
    return atomicAdd(counter, 1u);
#endif
}

// Reads a counter in order: see add_in_order().
__device__ __forceinline__ unsigned read_in_order(unsigned* counter) {
#if defined(__CUDA_ARCH__)
    unsigned count;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
    return count;
#else
    return atomicAdd(counter, 0u);
#endif
}

// One block's way through the launch. Every thread of the block makes the calls; all get the same part.
class Relay {
public:
    // Claims the first part. May stand before wait_for_previous_kernels(). `shared`: a word of shared memory that is
    // the relay's until wait() returns.
    __device__ Relay(const RelayPlan& plan, int* shared) : plan_(plan), shared_(shared) {
        if (threadIdx.x == 0) *shared_ = static_cast<int>(atomicAdd(&plan_.counters->claimed, 1u));
        __syncthreads();
        part_ = *shared_;
    }

    __device__ bool has_part() const { return part_ < plan_.parts; }
    __device__ int part() const { return part_; }

    // This block's part is done; claims the next.
    __device__ void next() {
        __syncthreads();
        if (threadIdx.x == 0) {
            done_ = static_cast<int>(add_in_order(&plan_.counters->done)) + 1;
            *shared_ = static_cast<int>(atomicAdd(&plan_.counters->claimed, 1u));
        }
        __syncthreads();
        part_ = *shared_;
    }

    // Returns when all parts are done, once this block has none.
    __device__ void wait() {
        if (threadIdx.x == 0) {
            while (done_ < plan_.parts) done_ = static_cast<int>(read_in_order(&plan_.counters->done));
            left_ = atomicAdd(&plan_.counters->left, 1u);
        }
        __syncthreads();
    }

    // The last block's last act: the counters are ready for another launch. Not in wait(), where the answer of the
    // counter would be waited for.
    __device__ void end() {
        if (threadIdx.x != 0 || left_ + 1 != gridDim.x) return;
        atomicExch(&plan_.counters->claimed, 0u);
        atomicExch(&plan_.counters->done, 0u);
        atomicExch(&plan_.counters->left, 0u);
    }

private:
    const RelayPlan& plan_;
    int* shared_;
    int part_ = 0, done_ = 0;
    unsigned left_ = 0;
};

}  // namespace lrengine::cuda
