// Which accesses are ordered. Threads of a block: by barriers, which give the block a new epoch. Lanes of a warp: by
// __syncwarp, which the warp's ticks count. Blocks: by what a block has released (a fence, then an atomic operation)
// before the other last acquired (by an atomic operation); stamps count fences and atomics of the whole launch.
#pragma once

#include "execution.h"

namespace emulation {

// An earlier access of thread `number` of the running block, in the block's epoch `epoch`.
inline bool ordered_in_block(const Run& run, std::uint32_t epoch, std::uint32_t tick, unsigned number) {
    const Block& block = *run.block;
    const Thread& me = *run.thread;
    if (epoch != block.epoch || number == me.number) return true;
    if ((number >> 5) != (me.number >> 5u)) return false;
    return block.warps[number >> 5].ordered(tick, number & 31u, me.lane());
}

inline bool published(const Run& run, const GlobalTouch& write) {
    const auto found = run.releases.find(write.block);
    if (found == run.releases.end()) return false;
    for (const Release& release : found->second) {
        if (release.fence > write.stamp) return release.stamp <= run.block->acquired;
    }
    return false;
}

}  // namespace emulation
