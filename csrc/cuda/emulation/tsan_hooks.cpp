// The entry points that g++ calls before loads and stores under -fsanitize=thread. The program does not link the thread
// sanitizer; these take its place. Outside of a kernel they let everything pass but device memory.
#include <cstring>

#include "access.h"

namespace emulation {

namespace {

struct DeviceRange {
    std::uintptr_t base;
    std::size_t bytes;
    const std::uint8_t* state;
    const std::uint32_t* page_epoch;
};

// Zero until the library starts; a zero-length range holds nothing.
DeviceRange device{};

[[maybe_unused]] const bool started = [] {
    const MemoryRange& range = device_memory();
    device = {range.base, range.bytes, range.state, range.page_epoch};
    return true;
}();

template <std::size_t Bytes>
bool all_written(const std::uint8_t* state) {
    if constexpr (Bytes == 16) {
        std::uint32_t granules;
        std::memcpy(&granules, state, 4);
        return granules == 0xffffffffu;
    } else if constexpr (Bytes == 8) {
        std::uint16_t granules;
        std::memcpy(&granules, state, 2);
        return granules == 0xffffu;
    } else {
        return *state == 0xffu;
    }
}

template <std::size_t Bytes, bool Write, bool Aligned = true>
inline void access(void* pointer, const void* from) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    const std::uintptr_t offset = address - device.base;
    Run* const run = running;
    if (run == nullptr) {
        if (offset < device.bytes) [[unlikely]]
            host_touches_device({address, Bytes, Write, false, Aligned, from});
        return;
    }
    if (address - run->stack_low < kStackBytes) return;
    // Reads of device memory that no launch is writing are most of what kernels do.
    if constexpr (!Write && Bytes != 1) {
        if (offset < device.bytes && address % Bytes == 0 && all_written<Bytes>(device.state + offset / 4) &&
            device.page_epoch[offset / 4096] < run->block->race_floor) {
            run->bytes_read += Bytes;
            return;
        }
    }
    check_access(*run, {address, Bytes, Write, false, Aligned, from});
}

inline void range_access(void* pointer, std::size_t bytes, bool write, const void* from) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (bytes == 0) return;
    if (running == nullptr) {
        if (is_device_address(address)) host_touches_device({address, bytes, write, false, false, from});
        return;
    }
    check_access(*running, {address, bytes, write, false, false, from});
}

// Volatile: as an atomic load or store would be where it is global memory, and plain where it is shared.
inline void volatile_access(void* pointer, std::size_t bytes, bool write, const void* from) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    Run* const run = running;
    if (run == nullptr || address - run->stack_low < kStackBytes) return;
    const bool global = is_device_address(address);
    if (global) {
        spin_turn(*run);
        note_atomic(*run);
    }
    check_access(*run, {address, bytes, write, global, true, from});
}

}  // namespace

}  // namespace emulation

#define EMULATION_HOOK(name, bytes, write, aligned)                                     \
    extern "C" void __tsan_##name(void* address) {                                      \
        emulation::access<bytes, write, aligned>(address, __builtin_return_address(0)); \
    }
#define EMULATION_VOLATILE_HOOK(name, bytes, write)                                     \
    extern "C" void __tsan_##name(void* address) {                                      \
        emulation::volatile_access(address, bytes, write, __builtin_return_address(0)); \
    }

EMULATION_HOOK(read1, 1, false, true)
EMULATION_HOOK(read2, 2, false, true)
EMULATION_HOOK(read4, 4, false, true)
EMULATION_HOOK(read8, 8, false, true)
EMULATION_HOOK(read16, 16, false, true)
EMULATION_HOOK(write1, 1, true, true)
EMULATION_HOOK(write2, 2, true, true)
EMULATION_HOOK(write4, 4, true, true)
EMULATION_HOOK(write8, 8, true, true)
EMULATION_HOOK(write16, 16, true, true)
EMULATION_HOOK(unaligned_read2, 2, false, false)
EMULATION_HOOK(unaligned_read4, 4, false, false)
EMULATION_HOOK(unaligned_read8, 8, false, false)
EMULATION_HOOK(unaligned_read16, 16, false, false)
EMULATION_HOOK(unaligned_write2, 2, true, false)
EMULATION_HOOK(unaligned_write4, 4, true, false)
EMULATION_HOOK(unaligned_write8, 8, true, false)
EMULATION_HOOK(unaligned_write16, 16, true, false)
EMULATION_VOLATILE_HOOK(volatile_read1, 1, false)
EMULATION_VOLATILE_HOOK(volatile_read2, 2, false)
EMULATION_VOLATILE_HOOK(volatile_read4, 4, false)
EMULATION_VOLATILE_HOOK(volatile_read8, 8, false)
EMULATION_VOLATILE_HOOK(volatile_read16, 16, false)
EMULATION_VOLATILE_HOOK(volatile_write1, 1, true)
EMULATION_VOLATILE_HOOK(volatile_write2, 2, true)
EMULATION_VOLATILE_HOOK(volatile_write4, 4, true)
EMULATION_VOLATILE_HOOK(volatile_write8, 8, true)
EMULATION_VOLATILE_HOOK(volatile_write16, 16, true)

extern "C" void __tsan_read_range(void* address, std::size_t bytes) {
    emulation::range_access(address, bytes, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* address, std::size_t bytes) {
    emulation::range_access(address, bytes, true, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
