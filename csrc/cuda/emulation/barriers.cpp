// Barriers of a block and of the grid, fences, and giving up one's turn.
#include <chrono>

#include "execution.h"

namespace emulation {

namespace {

// A thread that does this many atomic operations without waiting may be spinning: others get a turn.
constexpr std::uint8_t kAtomicsInATurn = 16;

int barrier_value(const Block& block) {
    switch (block.barrier_kind) {
        case BarrierKind::kAnd:
            return block.barrier_count == block.threads.size();
        case BarrierKind::kOr:
            return block.barrier_count != 0;
        default:
            return static_cast<int>(block.barrier_count);
    }
}

void require_same_barrier(const Block& block, BarrierKind kind, const std::source_location& where) {
    const std::source_location& theirs = block.barrier_where;
    if (block.barrier_kind == kind && theirs.line() == where.line() &&
        (theirs.file_name() == where.file_name() || std::string_view(theirs.file_name()) == where.file_name())) {
        return;
    }
    kernel_fault(FaultKind::kBarrier, cudaErrorLaunchFailure,
                 "the thread is at the barrier of " + describe_where(where) + ", others of its block wait at " +
                     describe_where(block.barrier_where));
}

}  // namespace

int block_barrier(BarrierKind kind, int predicate, const std::source_location& where) {
    Run& run = *running;
    Block& block = *run.block;
    if (block.arrived == 0) {
        block.barrier_kind = kind;
        block.barrier_where = where;
        block.barrier_count = 0;
    } else {
        require_same_barrier(block, kind, where);
    }
    block.barrier_count += predicate != 0;
    if (++block.arrived < block.threads.size()) {
        wait_as(run, ThreadState::kAtBarrier, where);
        return block.barrier_result;
    }
    block.arrived = 0;
    block.epoch = next_epoch();
    block.barrier_result = barrier_value(block);
    for (Warp& warp : block.warps) warp.runnable = warp.present;
    const Thread& me = *run.thread;
    block.warp_of(me).runnable &= ~(1u << me.lane());  // it has its turn already
    run.progress = true;
    return block.barrier_result;
}

void grid_barrier(const std::source_location& where) {
    Run& run = *running;
    if (!run.cooperative) {
        kernel_fault(FaultKind::kBarrier, cudaErrorLaunchFailure,
                     "grid barrier at " + describe_where(where) + " in a launch that is not cooperative");
    }
    run.block->at_grid_barrier++;
    wait_as(run, ThreadState::kAtGridBarrier, where);
}

void fence() {
    if (running != nullptr) running->block->fence = ++running->stamp;
}

void yield_thread() {
    if (running == nullptr) return;
    Run& run = *running;
    Thread& me = *run.thread;
    run.block->warp_of(me).yielded |= 1u << me.lane();
    give_up_turn(run);
}

// An atomic operation acquires what others have released, and releases what its block wrote before its last fence.
void note_atomic(Run& run) {
    Block& block = *run.block;
    block.acquired = ++run.stamp;
    if (block.fence == 0) return;
    std::vector<Release>& releases = run.releases[block.number];
    if (releases.empty() || releases.back().fence != block.fence) releases.push_back({block.fence, run.stamp});
}

void spin_turn(Run& run) {
    if (++run.thread->unblocked_atomics < kAtomicsInATurn) return;
    run.thread->unblocked_atomics = 0;
    yield_thread();
}

void wait_for_launch_before() {
    if (running != nullptr) running->block->race_floor = running->launch_epoch;
}

}  // namespace emulation

long long clock64() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

unsigned long long __globaltimer() { return static_cast<unsigned long long>(clock64()); }

void __trap() { emulation::kernel_fault(emulation::FaultKind::kTrap, cudaErrorLaunchFailure, "the kernel trapped"); }
