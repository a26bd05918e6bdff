#include "access.h"

#include <link.h>

#include <algorithm>
#include <cstdio>

#include "runtime.h"

namespace emulation {

namespace {

std::string describe(const Access& access) {
    char address[32];
    std::snprintf(address, sizeof(address), "0x%llx", static_cast<unsigned long long>(access.address));
    return (access.atomic  ? "atomic access of "
            : access.write ? "write of "
                           : "read of ") +
           std::to_string(access.bytes) + " bytes at " + address + " in " + symbol_at(access.from);
}

[[noreturn]] void refuse(FaultKind kind, const Access& access, const std::string& what) {
    const cudaError_t error =
        kind == FaultKind::kMisaligned ? cudaErrorMisalignedAddress
        : kind == FaultKind::kOutOfBounds || kind == FaultKind::kUseAfterFree || kind == FaultKind::kHostMemory
            ? cudaErrorIllegalAddress
            : cudaErrorLaunchFailure;
    kernel_fault(kind, error, describe(access) + ", " + what, access.address, access.bytes);
}

// Calls visit(granule, mask of bytes) for the granules of `bytes` bytes at `offset`.
template <typename Visit>
void for_granules(std::size_t offset, std::size_t bytes, Visit visit) {
    if ((offset | bytes) % 4 == 0) {  // most accesses
        for (std::size_t i = offset / 4, end = i + bytes / 4; i < end; ++i) visit(i, kAddressable);
        return;
    }
    while (bytes > 0) {
        const std::size_t here = std::min(bytes, 4 - offset % 4);
        visit(offset / 4, byte_mask(offset, here));
        offset += here;
        bytes -= here;
    }
}

std::string other_thread(const Run& run, unsigned number) {
    return "thread " + std::to_string(number) + " (lane " + std::to_string(number & 31u) + " of warp " +
           std::to_string(number >> 5) + ") against thread " + std::to_string(run.thread->number);
}

// --- shared memory ---------------------------------------------------------------------------------------------

struct SharedAccess {
    Run& run;
    const Access& access;
    std::size_t offset;

    [[noreturn]] void race(const SharedTouch& other, const char* what) const {
        refuse(FaultKind::kSharedRace, access,
               run.block->shared.describe(offset) + ": " + what + " of " + other_thread(run, other.thread) +
                   " with no barrier between");
    }
    bool conflicts(const SharedTouch& other, std::uint8_t mask) const {
        return other.epoch == run.block->epoch && other.thread != run.thread->number && (other.mask & mask) != 0 &&
               !(other.atomic && access.atomic) && !ordered_in_block(run, other.epoch, other.tick, other.thread);
    }
    // Bytes that this thread touched before in the same way stay known.
    void keep(SharedTouch& touch, const SharedTouch& mine) const {
        const bool again = touch.epoch == mine.epoch && touch.thread == mine.thread && touch.tick == mine.tick &&
                           touch.atomic == mine.atomic;
        const std::uint8_t mask = again ? touch.mask | mine.mask : mine.mask;
        touch = mine;
        touch.mask = mask;
    }
    void visit(std::size_t granule, std::uint8_t mask) const {
        Block& block = *run.block;
        SharedCell& cell = block.shared.cells()[granule];
        const SharedTouch mine{block.epoch, block.warp_of(*run.thread).tick, run.thread->number, mask, access.atomic};
        if (conflicts(cell.write, mask)) race(cell.write, access.write ? "write and write" : "write and read");
        if (!access.write) {
            const bool first = cell.read.epoch != mine.epoch || cell.read.thread == mine.thread;
            keep(first ? cell.read : cell.other_read, mine);
            return;
        }
        if (conflicts(cell.read, mask)) race(cell.read, "read and write");
        if (conflicts(cell.other_read, mask)) race(cell.other_read, "read and write");
        keep(cell.write, mine);
    }
};

void check_shared(Run& run, const Access& access) {
    SharedArena& arena = run.block->shared;
    const std::size_t offset = access.address - run.shared_low;
    std::uint8_t* state = arena.state();
    for_granules(offset, access.bytes, [&](std::size_t granule, std::uint8_t mask) {
        if ((state[granule] & mask) != mask) refuse(FaultKind::kOutOfBounds, access, arena.describe(offset));
        const auto written = static_cast<std::uint8_t>(mask << 4);
        const bool reads = !access.write || access.atomic;
        if (reads && (state[granule] & written) != written) {
            refuse(FaultKind::kUnwritten, access, arena.describe(offset));
        }
        if (access.write) state[granule] |= written;
    });
    const SharedAccess shared{run, access, offset};
    for_granules(offset, access.bytes, [&](std::size_t granule, std::uint8_t mask) { shared.visit(granule, mask); });
}

// --- device memory ---------------------------------------------------------------------------------------------

[[noreturn]] void global_race(const Run& run, const MemoryRange& range, const Access& access,
                              const GlobalTouch& touch) {
    std::string what = range.describe(access.address) + ": ";
    if (touch.launch < run.launch_epoch) {
        what += "written by the launch before, for which cudaGridDependencySynchronize has not waited";
    } else if (touch.block == run.block->number) {
        what += "written by " + other_thread(run, touch.thread) + " with no barrier between";
    } else {
        what += "written by block " + std::to_string(touch.block) + " thread " + std::to_string(touch.thread) +
                " of the same launch, with neither a grid barrier nor fence and atomic between";
    }
    refuse(FaultKind::kGlobalRace, access, what);
}

bool unordered(const Run& run, const Access& access, const GlobalTouch& touch, std::uint8_t mask) {
    if (touch.launch < run.block->race_floor || !(touch.mask & mask) || (touch.atomic && access.atomic)) return false;
    if (touch.launch < run.launch_epoch) return true;  // only where launches may overlap is the floor so low
    if (touch.block == run.block->number && ordered_in_block(run, touch.epoch, touch.tick, touch.thread)) return false;
    return !published(run, touch);
}

void check_order(Run& run, const MemoryRange& range, const Access& access, std::size_t offset) {
    std::uint32_t& last_launch = range.page_epoch[offset / 4096];
    const bool raced = last_launch >= run.block->race_floor && last_launch != 0;
    if (!raced && !access.write) return;
    const Block& block = *run.block;
    for_granules(offset, access.bytes, [&](std::size_t granule, std::uint8_t mask) {
        GlobalTouch& touch = range.touches[granule];
        if (raced && unordered(run, access, touch, mask)) global_race(run, range, access, touch);
        if (!access.write) return;
        const Thread& me = *run.thread;
        const bool again = touch.launch == run.launch_epoch && touch.block == block.number &&
                           touch.thread == me.number && touch.epoch == block.epoch && touch.stamp == run.stamp;
        const std::uint8_t bytes = again ? touch.mask | mask : mask;
        touch = {run.launch_epoch, block.number, block.epoch, block.warps[me.number >> 5].tick,
                 run.stamp,        me.number,    bytes,       access.atomic};
    });
    if (access.write) last_launch = run.launch_epoch;
    // An access of 16 bytes does not cross pages; one of a range may.
    if (access.write) range.page_epoch[(offset + access.bytes - 1) / 4096] = run.launch_epoch;
}

void check_range(Run& run, MemoryRange& range, const Access& access) {
    const std::size_t offset = access.address - range.base;
    const bool reads = !access.write || access.atomic;
    for_granules(offset, access.bytes, [&](std::size_t granule, std::uint8_t mask) {
        std::uint8_t& state = range.state[granule];
        if ((state & mask) != mask) {
            const FaultKind kind = range.was_freed(access.address) ? FaultKind::kUseAfterFree : FaultKind::kOutOfBounds;
            refuse(kind, access, range.describe(access.address));
        }
        const auto written = static_cast<std::uint8_t>(mask << 4);
        if (reads && (state & written) != written) {
            refuse(FaultKind::kUnwritten, access, range.describe(access.address));
        }
        if (access.write) state |= written;
    });
    check_order(run, range, access, offset);
    if (reads) run.bytes_read += access.bytes;
    if (access.write) run.bytes_written += access.bytes;
}

// --- everything else -------------------------------------------------------------------------------------------

struct Segment {
    std::uintptr_t start, end;
};

// Loaded segments of the program and its libraries: constants, and variables a kernel may at most read.
std::vector<Segment> loaded_segments() {
    std::vector<Segment> segments;
    dl_iterate_phdr(
        [](dl_phdr_info* module, std::size_t, void* data) {
            for (int i = 0; i < module->dlpi_phnum; ++i) {
                const auto& header = module->dlpi_phdr[i];
                if (header.p_type != PT_LOAD) continue;
                const std::uintptr_t start = module->dlpi_addr + header.p_vaddr;
                static_cast<std::vector<Segment>*>(data)->push_back({start, start + header.p_memsz});
            }
            return 0;
        },
        &segments);
    return segments;
}

bool is_static_data(std::uintptr_t address) {
    static std::vector<Segment> segments;
    static Segment last{0, 0};  // a kernel reads one table again and again
    const auto inside = [address](const Segment& segment) {
        return address - segment.start < segment.end - segment.start;
    };
    if (inside(last)) return true;
    auto found = std::find_if(segments.begin(), segments.end(), inside);
    if (found == segments.end()) {
        segments = loaded_segments();  // a library may have come since
        found = std::find_if(segments.begin(), segments.end(), inside);
    }
    if (found == segments.end()) return false;
    last = *found;
    return true;
}

}  // namespace

bool is_device_address(std::uintptr_t address) { return device_memory().contains(address); }

void check_access(Run& run, const Access& access) {
    if (access.address - run.stack_low < kStackBytes) return;
    // A GPU reads and writes 1, 2, 4, 8 or 16 bytes, aligned to their size.
    if (access.aligned && access.address % access.bytes != 0) {
        refuse(FaultKind::kMisaligned, access, "which is no multiple of its size");
    }
    if (access.address - run.shared_low < kArenaBytes) return check_shared(run, access);
    if (device_memory().contains(access.address)) return check_range(run, device_memory(), access);
    if (pinned_memory().contains(access.address)) return check_range(run, pinned_memory(), access);
    if (!access.write && is_static_data(access.address)) return;
    if (access.address < 4096) refuse(FaultKind::kOutOfBounds, access, "a null pointer");
    refuse(FaultKind::kHostMemory, access, "which is neither device memory nor the thread's own");
}

void host_touches_device(const Access& access) {
    const Lock lock(runtime().mutex);
    if (runtime().sticky != cudaSuccess) return;
    Report report{FaultKind::kHostMemory, cudaErrorIllegalAddress, {}, {}, {}, {}, access.address, access.bytes};
    report.text = std::string(name_of(report.kind)) + ": host code, " + describe(access) + ", " +
                  device_memory().describe(access.address);
    record_fault(std::move(report));
}

void atomic_access(void* address, std::size_t bytes) {
    if (running == nullptr) return;
    Run& run = *running;
    spin_turn(run);
    note_atomic(run);
    check_access(run,
                 {reinterpret_cast<std::uintptr_t>(address), bytes, true, true, true, __builtin_return_address(0)});
}

}  // namespace emulation
