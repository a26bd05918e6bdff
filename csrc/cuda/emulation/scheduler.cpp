// Whose turn it is. Warps of a block take turns in a random order, and a warp's lanes as long as any can run.
#include <algorithm>
#include <array>
#include <memory>
#include <numeric>

#include "execution.h"
#include "runtime.h"

extern "C" {
uint3 emulation_thread_index;
uint3 emulation_block_index;
dim3 emulation_block_dim;
dim3 emulation_grid_dim;
}

namespace emulation {

namespace {

// Rounds in which threads only spin; then nobody will ever set what they wait for.
constexpr int kSpinLimit = 200'000;

constexpr std::uint32_t kMostBeside = 4;  // blocks of a launch that is not cooperative

StackPool& stacks() {
    static StackPool pool;
    return pool;
}

// Blocks are kept from launch to launch: their arenas and threads are costly to make.
Block& block_at(std::size_t i) {
    static std::vector<std::unique_ptr<Block>> blocks;
    while (i >= blocks.size()) blocks.push_back(std::make_unique<Block>());
    return *blocks[i];
}

[[noreturn]] void thread_main() {
    Run& run = *running;
    run.call->invoke(run.call->kernel, run.arguments.data());
    Thread& me = *run.thread;
    Warp& warp = me.block->warp_of(me);
    for (const Rendezvous& waiting : warp.open) {
        if (waiting.mask & (1u << me.lane())) {
            kernel_fault(FaultKind::kWarpLanes, cudaErrorLaunchFailure,
                         "the thread exits while other lanes wait for it in a warp operation");
        }
    }
    warp.exited |= 1u << me.lane();
    me.block->exited++;
    me.state = ThreadState::kExited;
    run.progress = true;
    for (;;) give_up_turn(run);
}

void begin_block(Run& run, Block& block, uint3 index, std::uint32_t number, dim3 size, std::size_t dynamic_bytes,
                 std::size_t first_stack) {
    const unsigned count = size.x * size.y * size.z;
    block.index = index;
    block.number = number;
    block.epoch = next_epoch();
    block.threads.resize(count);
    block.warps.resize((count + 31) / 32);
    for (Warp& warp : block.warps) warp.begin();
    block.shared.begin_block(dynamic_bytes);
    block.arrived = block.exited = block.at_grid_barrier = 0;
    block.fence = block.acquired = 0;
    block.race_floor = run.previous_first_epoch != 0 ? run.previous_first_epoch : run.launch_epoch;
    for (unsigned i = 0; i < count; ++i) {
        Thread& thread = block.threads[i];
        std::byte* low = stacks().at(first_stack + i);
        thread.context = new_context(low, first_stack + i, thread_main);
        thread.stack_low = reinterpret_cast<std::uintptr_t>(low);
        thread.block = &block;
        thread.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        thread.number = static_cast<std::uint16_t>(i);
        thread.state = ThreadState::kRunnable;
        thread.unblocked_atomics = 0;
        block.warps[i / 32].present |= 1u << (i % 32);
    }
    for (Warp& warp : block.warps) warp.runnable = warp.present;
}

void become(Run& run, Thread& thread) {
    run.thread = &thread;
    run.stack_low = thread.stack_low;
    emulation_thread_index = thread.index;
}

// The next lane that can run, of which it is the turn now; null when each waits for somebody, has yielded or exited.
Thread* next_lane(Run& run) {
    Turn& turn = run.turn;
    Warp& warp = *turn.warp;
    while (warp.runnable != 0) {
        if (turn.step == 32) {
            const std::uint32_t bits = run.random.next();
            turn.multiplier = bits | 1u;  // odd: every lane comes once
            turn.start = bits >> 8;
            turn.step = 0;
        }
        const unsigned lane = (turn.start + turn.multiplier * turn.step++) & 31u;
        if (!(warp.runnable & (1u << lane))) continue;
        warp.runnable &= ~(1u << lane);
        return turn.lanes + lane;
    }
    return nullptr;
}

void run_warp(Run& run, Block& block, std::size_t number) {
    run.turn = {&block.warps[number], block.threads.data() + number * 32, 0, 1, 32};
    Thread* first = next_lane(run);
    if (first == nullptr) return;
    become(run, *first);
    emulation_switch_context(&run.scheduler, first->context);
}

// One turn for every warp. Returns whether a thread can run on.
bool run_block(Run& run, Block& block) {
    run.block = &block;
    run.shared_low = reinterpret_cast<std::uintptr_t>(block.shared.memory());
    emulation_block_index = block.index;
    std::array<std::uint8_t, 32> order{};
    const std::size_t warps = block.warps.size();
    std::iota(order.begin(), order.end(), 0);
    run.random.shuffle(order.data(), warps);
    for (std::size_t i = 0; i < warps; ++i) {
        run_warp(run, block, order[i]);
        if (run.failed) return false;
    }
    bool runnable = false;
    for (Warp& warp : block.warps) {
        warp.runnable |= warp.yielded;
        warp.yielded = 0;
        runnable = runnable || warp.runnable != 0;
    }
    return runnable;
}

const Thread& a_thread(const Block& block, ThreadState state) {
    for (const Thread& thread : block.threads) {
        if (thread.state == state) return thread;
    }
    return block.threads.front();
}

// Nobody can run, and not all have exited: says who waits where for whom.
void report_stuck(Run& run, Block& block, bool spinning) {
    const auto waiting = [&](ThreadState state) {
        return std::count_if(block.threads.begin(), block.threads.end(),
                             [&](const Thread& thread) { return thread.state == state; });
    };
    std::string what;
    FaultKind kind = FaultKind::kBarrier;
    const Thread* culprit = nullptr;
    const auto note = [&](ThreadState state, const char* doing) {
        const auto count = waiting(state);
        if (count == 0) return;
        const Thread& example = a_thread(block, state);
        what += (what.empty() ? "" : ", ") + std::to_string(count) + " of " + std::to_string(block.threads.size()) +
                " threads " + doing;
        if (state != ThreadState::kExited && state != ThreadState::kRunnable)
            what += " at " + describe_where(example.where);
        if (state != ThreadState::kExited) culprit = &example;
    };
    note(ThreadState::kAtBarrier, "wait for the block");
    note(ThreadState::kAtGridBarrier, "wait for the grid");
    note(ThreadState::kAtWarpOperation, "wait for lanes of their warp");
    note(ThreadState::kRunnable, "spin");
    note(ThreadState::kExited, "have exited");
    if (spinning)
        kind = FaultKind::kTimeout;
    else if (block.arrived == 0 && block.at_grid_barrier == 0)
        kind = FaultKind::kWarpLanes;
    const cudaError_t error = spinning ? cudaErrorLaunchTimeout : cudaErrorLaunchFailure;
    Report report{kind, error, std::string(name_of(kind)) + ": " + what, run.kernel, block.index, {}, 0, 0};
    if (culprit != nullptr) {
        report.thread = culprit->index;
        report.text += "; for one, " + describe_thread(*culprit);
    }
    report.text += " of " + run.kernel;
    record_fault(std::move(report));
    run.failed = true;
}

void finish_block(Run& run, Block& block, std::size_t* static_bytes) {
    *static_bytes = std::max(*static_bytes, block.shared.static_bytes());
    if (run.failed) return;
    if (!block.finished()) report_stuck(run, block, false);
}

uint3 block_index(std::uint32_t number, dim3 grid) {
    return {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
}

// Every block for itself: none can count on another that is not yet there, or no longer. One at a time, or a few beside
// each other, which take turns where their threads wait or spin.
void run_independent(Run& run, dim3 grid, dim3 size, std::size_t dynamic_bytes, std::size_t* static_bytes) {
    const std::uint32_t count = grid.x * grid.y * grid.z;
    const std::size_t threads = std::size_t{size.x} * size.y * size.z;
    Permutation order(count, run.random);
    const std::uint32_t draw = run.random.next() >> 8, most = draw % 2 == 0 ? 1 : 2 + draw / 2 % (kMostBeside - 1);
    std::uint32_t begun = 0;
    const auto begin = [&](std::size_t place) {
        const std::uint32_t number = order[begun++];
        begin_block(run, block_at(place), block_index(number, grid), number, size, dynamic_bytes, place * threads);
    };
    std::vector<std::size_t> places;  // of the blocks that run
    for (std::size_t i = 0; i < std::min(count, most); ++i) {
        places.push_back(i);
        begin(i);
    }
    for (int spins = 0; !places.empty();) {
        for (std::size_t i = 0; i < places.size();) {
            Block& block = block_at(places[i]);
            const bool runs_on = run_block(run, block);
            if (!runs_on) finish_block(run, block, static_bytes);
            if (run.failed) return;
            if (runs_on || begun < count) {
                if (!runs_on) begin(places[i]);
                ++i;
            } else {
                places.erase(places.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
        spins = run.progress ? 0 : spins + 1;
        run.progress = false;
        if (spins > kSpinLimit) return report_stuck(run, block_at(places.front()), true);
    }
}

// All blocks at once, which is what a cooperative launch promises.
void run_cooperative(Run& run, dim3 grid, dim3 size, std::size_t dynamic_bytes, std::size_t* static_bytes) {
    const std::uint32_t count = grid.x * grid.y * grid.z;
    const std::size_t threads = std::size_t{size.x} * size.y * size.z;
    for (std::uint32_t i = 0; i < count; ++i) {
        begin_block(run, block_at(i), block_index(i, grid), i, size, dynamic_bytes, i * threads);
    }
    for (int spins = 0; !run.failed;) {
        Permutation order(count, run.random);
        bool runnable = false;
        std::size_t waiting = 0;
        for (std::uint32_t i = 0; i < count && !run.failed; ++i) {
            Block& block = block_at(order[i]);
            runnable = run_block(run, block) || runnable;
            waiting += block.at_grid_barrier;
        }
        if (run.failed) break;
        spins = run.progress ? 0 : spins + 1;
        run.progress = false;
        if (runnable && spins > kSpinLimit) {
            report_stuck(run, block_at(0), true);
        } else if (!runnable) {
            if (waiting != count * threads) break;
            run.launch_epoch = next_epoch();
            for (std::uint32_t i = 0; i < count; ++i) {
                Block& block = block_at(i);
                block.at_grid_barrier = 0;
                block.epoch = next_epoch();
                if (block.race_floor > run.previous_first_epoch) block.race_floor = run.launch_epoch;
                for (Warp& warp : block.warps) warp.runnable = warp.present;
            }
        }
    }
    for (std::uint32_t i = 0; i < count; ++i) finish_block(run, block_at(i), static_bytes);
}

}  // namespace

void give_up_turn(Run& run) {
    void** const save = &run.thread->context;
    Thread* const next = run.failed ? nullptr : next_lane(run);
    if (next == nullptr) {
        emulation_switch_context(save, run.scheduler);
        return;
    }
    become(run, *next);
    emulation_switch_context(save, next->context);
}

void wait_as(Run& run, ThreadState state, const std::source_location& where) {
    Thread& me = *run.thread;
    me.state = state;
    me.where = where;
    run.progress = true;
    me.unblocked_atomics = 0;
    give_up_turn(run);
    me.state = ThreadState::kRunnable;
}

void run_grid(Run& run, dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t* static_bytes) {
    emulation_block_dim = block;
    emulation_grid_dim = grid;
    running = &run;
    if (run.cooperative) {
        run_cooperative(run, grid, block, dynamic_bytes, static_bytes);
    } else {
        run_independent(run, grid, block, dynamic_bytes, static_bytes);
    }
    running = nullptr;
}

}  // namespace emulation
