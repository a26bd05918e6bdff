// Device and pinned memory: two ranges of addresses, reserved once, in which allocations are spread out so that freed
// addresses stay unused for as long as possible. The whole shadow of a range is found by arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "shadow.h"

namespace emulation {

class MemoryRange {
public:
    explicit MemoryRange(std::size_t bytes);
    ~MemoryRange();
    MemoryRange(const MemoryRange&) = delete;
    MemoryRange& operator=(const MemoryRange&) = delete;

    struct Allocation {
        std::size_t bytes;
        std::uint64_t number;  // the how-many-th of the program
    };

    // 256-byte aligned, with at least 256 bytes to the next; null when there is no room.
    void* allocate(std::size_t bytes);
    // False for anything but the start of a live allocation.
    bool free(void* pointer);
    bool contains(std::uintptr_t address) const { return address - base < bytes; }
    // Whether all of [pointer, pointer + bytes) lies in one live allocation.
    bool holds(const void* pointer, std::size_t count) const;
    void mark_written(const void* pointer, std::size_t count);
    bool is_written(const void* pointer, std::size_t count) const;
    void copy_written(const void* target, const void* source, std::size_t count);
    bool was_freed(std::uintptr_t address) const;
    // "4 bytes past the end of allocation 7 of 1024 bytes", for a report.
    std::string describe(std::uintptr_t address) const;

    std::size_t alive() const { return live_.size(); }
    std::size_t bytes_alive() const { return bytes_alive_; }

    // Read by every access of a kernel.
    std::uintptr_t base = 0;
    std::size_t bytes = 0;
    std::uint8_t* state = nullptr;
    GlobalTouch* touches = nullptr;
    std::uint32_t* page_epoch = nullptr;  // the last launch that wrote to a 4 KiB page

private:
    void set_addressable(std::uintptr_t start, std::size_t count);
    void release_pages(std::uintptr_t start, std::size_t count);
    std::map<std::uintptr_t, Allocation> live_;
    std::deque<std::pair<std::uintptr_t, Allocation>> freed_;
    std::uintptr_t cursor_ = 0;
    std::size_t bytes_alive_ = 0;
    std::uint64_t next_number_ = 1;
};

MemoryRange& device_memory();
MemoryRange& pinned_memory();

}  // namespace emulation
