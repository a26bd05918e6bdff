// What is known about every 4 bytes ("granule") of device and shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

// A granule's state: bit i says that its byte i belongs to an allocation, bit 4 + i that it has been written.
inline constexpr std::uint8_t kAddressable = 0x0f, kWritten = 0xf0;

// The last write of a kernel to a granule of device memory.
struct GlobalTouch {
    std::uint32_t launch;  // epoch of the launch, or of its last grid barrier
    std::uint32_t block;
    std::uint32_t epoch;  // epoch of the block's last barrier
    std::uint32_t tick;   // of the thread's warp
    std::uint32_t stamp;  // of fences and atomics, see order.h
    std::uint16_t thread;
    std::uint8_t mask;  // bytes
    bool atomic;
};

// An access to a granule of shared memory.
struct SharedTouch {
    std::uint32_t epoch;
    std::uint32_t tick;
    std::uint16_t thread;
    std::uint8_t mask;
    bool atomic;
};

struct SharedCell {
    SharedTouch write, read, other_read;  // two readers: at least one differs from any writer
};

inline std::uint8_t byte_mask(std::uintptr_t address, std::size_t bytes) {
    return static_cast<std::uint8_t>(((1u << bytes) - 1u) << (address & 3u));
}

}  // namespace emulation
