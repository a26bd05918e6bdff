// Kernels for the tests of the CUDA emulation. The .cu files behind this also compile with nvcc.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/relay.h"

namespace kernels {

// Each is a mistake that a GPU punishes or lets pass silently, beside the kernel that does the same thing right.
enum class Mistake {
    kNoBarrier,             // reads a neighbour's shared value without __syncthreads
    kNoWarpBarrier,         // the same inside a warp, without __syncwarp
    kSharedWriteWrite,      // two threads write one shared value
    kDivergentBarrier,      // half of the block leaves before __syncthreads
    kTwoBarriers,           // the halves of the block wait at different lines
    kAbsentLane,            // a shuffle's mask names lanes that have left
    kLaneOutsideMask,       // a lane shuffles with a mask that leaves it out
    kReadPastEnd,           // one element
    kWritePastEnd,          //
    kSharedPastEnd,         //
    kMisalignedVector,      // a 16-byte load, 4 bytes off
    kUseAfterFree,          //
    kHostPointer,           //
    kHostTouchesDevice,     // host code reads device memory
    kOthersStack,           // another thread's local variable
    kUnwrittenShared,       //
    kUnwrittenDevice,       //
    kBlocksWriteOne,        // two blocks write one value
    kNoFence,               // split-K whose last block reads partial sums that were not fenced
    kThreadsOfBlockDevice,  // reads in device memory what a thread of the block wrote, without __syncthreads
    kNoDependencyWait,      // reads what the overlapped launch before wrote, without waiting for it
    kGridBarrierAlone,      // a grid barrier in an ordinary launch
    kSpinForever,           // waits for a flag that only a block that has not begun would set
    kOwnGridBarrier         // a grid barrier made of a counter, in an ordinary launch
};
inline constexpr Mistake kMistakes[] = {
    Mistake::kNoBarrier,        Mistake::kNoWarpBarrier,     Mistake::kSharedWriteWrite, Mistake::kDivergentBarrier,
    Mistake::kTwoBarriers,      Mistake::kAbsentLane,        Mistake::kLaneOutsideMask,  Mistake::kReadPastEnd,
    Mistake::kWritePastEnd,     Mistake::kSharedPastEnd,     Mistake::kMisalignedVector, Mistake::kUseAfterFree,
    Mistake::kHostPointer,      Mistake::kHostTouchesDevice, Mistake::kOthersStack,      Mistake::kUnwrittenShared,
    Mistake::kUnwrittenDevice,  Mistake::kBlocksWriteOne,    Mistake::kNoFence,          Mistake::kThreadsOfBlockDevice,
    Mistake::kNoDependencyWait, Mistake::kGridBarrierAlone,  Mistake::kSpinForever,      Mistake::kOwnGridBarrier};

// Allocates what the kernel needs, runs it wrong or right, and frees. The first error, or cudaSuccess.
cudaError_t run(Mistake mistake, bool wrong);

// out[r] = softmax(in[r]) of `rows` rows of `n`, a block of 128 threads a row.
cudaError_t softmax(const float* in, float* out, int rows, int n, cudaStream_t stream);
// out[i] = in[(i + count / 2) % count] * 2, doubled before and fetched after a grid barrier; overwrites `in`.
cudaError_t double_and_rotate(float* in, float* out, int count);
// *out = sum of in[0 .. n); `splits` blocks, the last of which adds up. `counter` is 0 before and after.
cudaError_t split_sum(const float* in, float* partial, float* out, unsigned* counter, int n, int splits,
                      cudaStream_t stream);
// out[p] = 2 (p + 1 mod parts): the first half of the launch writes 2 p to between[p], the second reads it a part
// further on. `counters` are 0 before and after. Without `waits` the second half does not wait for the first.
cudaError_t relay(lrengine::cuda::RelayCounters* counters, int* between, int* out, int parts, unsigned blocks,
                  bool waits);
// out[i] = in[i] + value
cudaError_t add(const float* in, float* out, int n, float value, cudaStream_t stream);
// What the intrinsics give, for their tests: [0 .. 15].
cudaError_t intrinsics(unsigned* out);
// out[b] = how many blocks had their turn before block b; `counter` begins at 0.
cudaError_t turns(unsigned* counter, unsigned* out, unsigned blocks);
// `bytes` of dynamic shared memory in a launch of `threads` threads in `blocks` blocks.
cudaError_t empty(unsigned blocks, unsigned threads, std::size_t bytes, bool cooperative = false);
cudaError_t allow_empty(std::size_t bytes);

}  // namespace kernels
