// Warp operations: lanes that wait for each other leave their values in a Rendezvous; the last to come hands out
// results.
#include <algorithm>

#include "execution.h"

namespace emulation {

namespace {

std::string lanes_of(unsigned mask) {
    std::string text;
    for (int lane = 0; lane < 32; ++lane) {
        if (mask & (1u << lane)) text += (text.empty() ? "" : ", ") + std::to_string(lane);
    }
    return text;
}

void require_valid(const Thread& me, const Warp& warp, WarpOperation operation, unsigned mask, int source,
                   const std::source_location& where) {
    const auto refuse = [&](const std::string& what) {
        kernel_fault(FaultKind::kWarpLanes, cudaErrorLaunchFailure,
                     "warp operation at " + describe_where(where) + " " + what);
    };
    if (!(mask & (1u << me.lane()))) refuse("by a lane that its mask does not name");
    if (const unsigned absent = mask & (warp.exited | ~warp.present); absent != 0) {
        refuse("whose mask names absent lanes " + lanes_of(absent));
    }
    if (operation == WarpOperation::kShuffle && !((mask >> source) & 1u)) {
        refuse("reads lane " + std::to_string(source) + ", which its mask does not name");
    }
}

Rendezvous& rendezvous(Warp& warp, WarpOperation operation, unsigned mask, unsigned bit) {
    for (Rendezvous& open : warp.open) {
        if (open.operation == operation && open.mask == mask && !(open.arrived & bit)) return open;
    }
    Rendezvous& made = warp.open.emplace_back();
    made.operation = operation;
    made.mask = mask;
    made.arrived = 0;
    return made;
}

template <typename Visit>
void for_lanes(unsigned mask, Visit visit) {
    for (; mask != 0; mask &= mask - 1) visit(static_cast<unsigned>(std::countr_zero(mask)));
}

std::uint64_t combine(WarpOperation operation, std::uint64_t left, std::uint64_t right) {
    const auto a = static_cast<std::uint32_t>(left), b = static_cast<std::uint32_t>(right);
    const auto signed_a = static_cast<std::int32_t>(a), signed_b = static_cast<std::int32_t>(b);
    switch (operation) {
        case WarpOperation::kAdd:
            return a + b;
        case WarpOperation::kMinSigned:
            return signed_b < signed_a ? b : a;
        case WarpOperation::kMaxSigned:
            return signed_b > signed_a ? b : a;
        case WarpOperation::kMinUnsigned:
            return std::min(a, b);
        case WarpOperation::kMaxUnsigned:
            return std::max(a, b);
        case WarpOperation::kAnd:
            return a & b;
        case WarpOperation::kOr:
            return a | b;
        default:
            return a ^ b;
    }
}

void note_sync(Warp& warp, unsigned mask) {
    ++warp.tick;
    if (mask == warp.present) {
        warp.full_sync = warp.tick;
        return;
    }
    warp.pair_sync.resize(32 * 32);
    for_lanes(mask, [&](unsigned a) { for_lanes(mask, [&](unsigned b) { warp.pair_sync[a * 32 + b] = warp.tick; }); });
}

void hand_out(Block& block, Warp& warp, std::size_t first_thread, const Rendezvous& done) {
    Thread* lanes = block.threads.data() + first_thread;
    const auto give_all = [&](std::uint64_t value) {
        for_lanes(done.mask, [&](unsigned lane) { lanes[lane].result = value; });
    };
    switch (done.operation) {
        case WarpOperation::kSync:
            note_sync(warp, done.mask);
            return;
        case WarpOperation::kShuffle:
            for_lanes(done.mask, [&](unsigned lane) { lanes[lane].result = done.values[done.sources[lane]]; });
            return;
        case WarpOperation::kBallot: {
            unsigned votes = 0;
            for_lanes(done.mask, [&](unsigned lane) { votes |= done.values[lane] != 0 ? 1u << lane : 0u; });
            give_all(votes);
            return;
        }
        case WarpOperation::kMatchAny:
            for_lanes(done.mask, [&](unsigned lane) {
                unsigned equal = 0;
                for_lanes(done.mask,
                          [&](unsigned other) { equal |= done.values[other] == done.values[lane] ? 1u << other : 0u; });
                lanes[lane].result = equal;
            });
            return;
        default: {
            std::uint64_t total = done.values[std::countr_zero(done.mask)];
            for_lanes(done.mask & (done.mask - 1),
                      [&](unsigned lane) { total = combine(done.operation, total, done.values[lane]); });
            give_all(total);
        }
    }
}

}  // namespace

std::uint64_t warp_collective(WarpOperation operation, unsigned mask, std::uint64_t value, int source,
                              const std::source_location& where) {
    Run& run = *running;
    Thread& me = *run.thread;
    Warp& warp = run.block->warp_of(me);
    require_valid(me, warp, operation, mask, source, where);
    const unsigned bit = 1u << me.lane();
    Rendezvous& meeting = rendezvous(warp, operation, mask, bit);
    meeting.arrived |= bit;
    meeting.values[me.lane()] = value;
    meeting.sources[me.lane()] = static_cast<std::uint8_t>(source);
    if (meeting.arrived != mask) {
        wait_as(run, ThreadState::kAtWarpOperation, where);
        return me.result;
    }
    hand_out(*run.block, warp, me.number & ~std::size_t{31}, meeting);
    warp.runnable |= mask & ~bit;
    if (&meeting != &warp.open.back()) meeting = warp.open.back();
    warp.open.pop_back();
    run.progress = true;
    return me.result;
}

unsigned active_mask() {
    const Warp& warp = running->block->warp_of(*running->thread);
    return warp.present & ~warp.exited;
}

}  // namespace emulation
