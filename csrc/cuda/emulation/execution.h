// A launch in progress: its blocks, warps and threads, and what of them every access looks at.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "emulation.h"
#include "fiber.h"
#include "include/cuda_runtime.h"
#include "random.h"
#include "shadow.h"

namespace emulation {

inline constexpr std::size_t kArenaBytes = 320 * 1024;  // 227 KiB dynamic, 48 KiB static, red zones

// The shared memory of one block, with its shadow. Cells of blocks before carry old epochs and need no clearing.
class SharedArena {
public:
    SharedArena();
    void begin_block(std::size_t dynamic_bytes);
    // The offset of the variable of `site`, made at the first call.
    std::size_t variable(const void* site, std::size_t bytes, std::size_t alignment);
    std::size_t static_bytes() const { return static_bytes_; }
    // "float tile[] + 12", as far as it is known.
    std::string describe(std::size_t offset) const;

    std::byte* memory() { return memory_.get(); }
    std::uint8_t* state() { return state_.data(); }
    SharedCell* cells() { return cells_.get(); }

private:
    struct Variable {
        const void* site;
        std::size_t offset, bytes;
    };
    struct Release {
        void operator()(std::byte* memory) const;
    };
    void open(std::size_t offset, std::size_t bytes);
    std::unique_ptr<std::byte[], Release> memory_;
    std::vector<std::uint8_t> state_;
    std::unique_ptr<SharedCell[]> cells_;
    std::vector<Variable> variables_;
    std::size_t used_ = 0, dynamic_bytes_ = 0, static_bytes_ = 0;
};

struct Block;

enum class ThreadState : std::uint8_t { kRunnable, kAtBarrier, kAtWarpOperation, kAtGridBarrier, kExited };

struct Thread {
    void* context = nullptr;
    std::uintptr_t stack_low = 0;
    Block* block = nullptr;
    uint3 index{};
    std::uint16_t number = 0;  // in its block
    ThreadState state = ThreadState::kRunnable;
    std::uint8_t unblocked_atomics = 0;
    std::uint64_t result = 0;  // of a warp operation
    std::source_location where;

    unsigned lane() const { return number & 31u; }
};

// Lanes that wait for each other in one operation.
struct Rendezvous {
    WarpOperation operation;
    unsigned mask, arrived;
    std::uint64_t values[32];
    std::uint8_t sources[32];
};

struct Warp {
    unsigned present = 0, runnable = 0, yielded = 0, exited = 0;
    std::uint32_t tick = 1, full_sync = 0;
    std::vector<std::uint32_t> pair_sync;  // [32 x 32], made at the first __syncwarp of a part of the warp
    std::vector<Rendezvous> open;

    // As new, but with the memory of before.
    void begin() {
        present = runnable = yielded = exited = 0;
        tick = 1;
        full_sync = 0;
        pair_sync.clear();
        open.clear();
    }

    // Whether __syncwarp stands between an access of `lane` at `tick` and now, seen from `other`.
    bool ordered(std::uint32_t access_tick, unsigned lane, unsigned other) const {
        return access_tick < full_sync || (!pair_sync.empty() && access_tick < pair_sync[lane * 32 + other]);
    }
};

struct Block {
    uint3 index{};
    std::uint32_t number = 0;  // in the grid
    std::uint32_t epoch = 0;   // changes at every barrier, and is unique in the program
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    SharedArena shared;
    unsigned arrived = 0, exited = 0, at_grid_barrier = 0;
    BarrierKind barrier_kind = BarrierKind::kPlain;
    std::source_location barrier_where;
    unsigned barrier_count = 0;
    int barrier_result = 0;
    std::uint32_t fence = 0, acquired = 0;  // stamps, see order.h
    std::uint32_t race_floor = 0;           // writes of launches from here on may be unordered with this block

    Warp& warp_of(const Thread& thread) { return warps[thread.number >> 5]; }
    bool finished() const { return exited == threads.size(); }
};

// What a block has published: the stamps of its fences, and of the first atomic operation after each.
struct Release {
    std::uint32_t fence, stamp;
};

// Which lanes of the running warp come next: lane (start + multiplier * i) mod 32 for i = step .. 31, then a new order.
struct Turn {
    Warp* warp = nullptr;
    Thread* lanes = nullptr;
    unsigned start = 0, multiplier = 1, step = 32;
};

struct Run {
    explicit Run(std::uint64_t seed) : random(seed) {}
    Random random;
    Turn turn;
    const KernelCall* call = nullptr;
    std::vector<void*> arguments;
    std::string kernel;
    bool cooperative = false, failed = false;
    Thread* thread = nullptr;
    Block* block = nullptr;
    void* scheduler = nullptr;  // context
    std::uintptr_t stack_low = 0, shared_low = 0;
    std::uint32_t launch_epoch = 0, stamp = 0;
    std::uint32_t first_epoch = 0;           // of this launch
    std::uint32_t previous_first_epoch = 0;  // of the launch before, where this one may overlap it; else 0
    std::uint64_t bytes_read = 0, bytes_written = 0;
    bool progress = false;
    std::unordered_map<std::uint32_t, std::vector<Release>> releases;  // by block
};

// The launch that this host thread is in the middle of, or null. One at a time in the program.
extern thread_local Run* running __attribute__((tls_model("initial-exec")));

// Epochs number launches, blocks and barriers alike. Wraps after 4 billion of them.
std::uint32_t next_epoch();

// Lets the next lane of the warp run, or the scheduler where there is none; returns when this thread is resumed.
void give_up_turn(Run& run);
void wait_as(Run& run, ThreadState state, const std::source_location& where);

// Runs every block of the launch; on a fault run.failed is set and the threads are abandoned where they are.
void run_grid(Run& run, dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t* static_bytes);

// Ends the running kernel with a report.
[[noreturn]] void kernel_fault(FaultKind kind, cudaError_t error, const std::string& what, std::uintptr_t address = 0,
                               std::size_t bytes = 0);

std::string describe_thread(const Thread& thread);
std::string describe_where(const std::source_location& where);

}  // namespace emulation
