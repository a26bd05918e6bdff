#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace emulation {

namespace {

constexpr std::size_t kAlignment = 256;  // as cudaMalloc gives
constexpr std::size_t kRedZone = 256;
constexpr std::size_t kRemembered = 4096;  // freed allocations that a report can still name

// Address space only: pages come when touched, and are zero.
void* reserve(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
}

// Data, and the shadow behind it.
constexpr std::size_t reserved_bytes(std::size_t total) {
    return total + total / 4 * (sizeof(GlobalTouch) + 1) + total / 4096 * sizeof(std::uint32_t);
}

std::size_t footprint(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment + kRedZone; }

}  // namespace

MemoryRange::MemoryRange(std::size_t total) : bytes(total) {
    auto* next = static_cast<std::byte*>(reserve(reserved_bytes(total)));
    const auto take = [&next](std::size_t count) { return std::exchange(next, next + count); };
    base = reinterpret_cast<std::uintptr_t>(take(total));
    touches = reinterpret_cast<GlobalTouch*>(take(total / 4 * sizeof(GlobalTouch)));
    state = reinterpret_cast<std::uint8_t*>(take(total / 4));
    page_epoch = reinterpret_cast<std::uint32_t*>(take(total / 4096 * sizeof(std::uint32_t)));
    cursor_ = base + kAlignment;
}

MemoryRange::~MemoryRange() { munmap(reinterpret_cast<void*>(base), reserved_bytes(bytes)); }

void* MemoryRange::allocate(std::size_t count) {
    if (count > bytes) return nullptr;
    const std::size_t needed = footprint(count);
    // Next fit: the cursor only moves on, and starts again at the bottom once.
    for (bool wrapped = false;;) {
        if (cursor_ + needed > base + bytes) {
            if (wrapped) return nullptr;
            wrapped = true;
            cursor_ = base + kAlignment;
            continue;
        }
        const auto after = live_.upper_bound(cursor_);
        if (after != live_.begin()) {
            const auto before = std::prev(after);
            const std::uintptr_t end = before->first + footprint(before->second.bytes);
            if (end > cursor_) {
                cursor_ = end;
                continue;
            }
        }
        if (after == live_.end() || cursor_ + needed <= after->first) break;
        cursor_ = after->first + footprint(after->second.bytes);
    }
    const std::uintptr_t start = cursor_;
    cursor_ += needed;
    live_.emplace(start, Allocation{count, next_number_++});
    bytes_alive_ += count;
    set_addressable(start, count);
    return reinterpret_cast<void*>(start);
}

void MemoryRange::set_addressable(std::uintptr_t start, std::size_t count) {
    std::uint8_t* granules = state + (start - base) / 4;
    std::memset(granules, kAddressable, count / 4);
    if (count % 4 != 0) granules[count / 4] = byte_mask(0, count % 4);
}

bool MemoryRange::free(void* pointer) {
    const auto found = live_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == live_.end()) return false;
    const auto [start, allocation] = *found;
    std::memset(state + (start - base) / 4, 0, (allocation.bytes + 3) / 4);
    release_pages(start, allocation.bytes);
    bytes_alive_ -= allocation.bytes;
    freed_.emplace_front(start, allocation);
    if (freed_.size() > kRemembered) freed_.pop_back();
    live_.erase(found);
    return true;
}

// Gives whole pages of freed data and of its touches back to the system.
void MemoryRange::release_pages(std::uintptr_t start, std::size_t count) {
    const auto release = [](std::uintptr_t from, std::uintptr_t to) {
        constexpr std::uintptr_t kPage = 64 * 1024;
        from = (from + kPage - 1) / kPage * kPage;
        to = to / kPage * kPage;
        if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
    };
    release(start, start + count);
    const auto shadow = reinterpret_cast<std::uintptr_t>(touches + (start - base) / 4);
    release(shadow, shadow + count / 4 * sizeof(GlobalTouch));
}

bool MemoryRange::holds(const void* pointer, std::size_t count) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    auto after = live_.upper_bound(address);
    if (after == live_.begin()) return false;
    const auto& [start, allocation] = *std::prev(after);
    return address - start <= allocation.bytes && count <= allocation.bytes - (address - start);
}

void MemoryRange::mark_written(const void* pointer, std::size_t count) {
    std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(pointer) - base;
    const std::uintptr_t end = offset + count;
    for (; offset < end && offset % 4 != 0; ++offset) state[offset / 4] |= byte_mask(offset, 1) << 4;
    if (end > offset) std::memset(state + offset / 4, kAddressable | kWritten, (end - offset) / 4);
    for (offset = std::max(offset, end / 4 * 4); offset < end; ++offset) state[offset / 4] |= byte_mask(offset, 1) << 4;
}

bool MemoryRange::is_written(const void* pointer, std::size_t count) const {
    const std::uintptr_t offset = reinterpret_cast<std::uintptr_t>(pointer) - base;
    for (std::uintptr_t i = offset; i < offset + count; ++i) {
        if (!(state[i / 4] & (byte_mask(i, 1) << 4))) return false;
    }
    return true;
}

void MemoryRange::copy_written(const void* target, const void* source, std::size_t count) {
    const std::uintptr_t to = reinterpret_cast<std::uintptr_t>(target) - base;
    const std::uintptr_t from = reinterpret_cast<std::uintptr_t>(source) - base;
    std::size_t i = 0;
    if (to % 4 == 0 && from % 4 == 0) {
        for (; i + 4 <= count; i += 4) {
            state[(to + i) / 4] = static_cast<std::uint8_t>(kAddressable | (state[(from + i) / 4] & kWritten));
        }
    }
    for (; i < count; ++i) {
        const bool written = state[(from + i) / 4] & (byte_mask(from + i, 1) << 4);
        const auto bit = static_cast<std::uint8_t>(byte_mask(to + i, 1) << 4);
        std::uint8_t& granule = state[(to + i) / 4];
        granule = static_cast<std::uint8_t>(written ? granule | bit : granule & ~bit);
    }
}

bool MemoryRange::was_freed(std::uintptr_t address) const {
    for (const auto& [start, allocation] : freed_) {
        if (address - start < std::max<std::size_t>(allocation.bytes, 1))
            return !holds(reinterpret_cast<void*>(address), 1);
    }
    return false;
}

std::string MemoryRange::describe(std::uintptr_t address) const {
    for (const auto& [start, allocation] : freed_) {
        if (address - start < allocation.bytes && !holds(reinterpret_cast<void*>(address), 1)) {
            return std::to_string(address - start) + " bytes into freed allocation " +
                   std::to_string(allocation.number) + " of " + std::to_string(allocation.bytes) + " bytes";
        }
    }
    const auto after = live_.upper_bound(address);
    if (after == live_.begin()) {
        if (after == live_.end()) return "no allocation is alive";
        return std::to_string(after->first - address) + " bytes before allocation " +
               std::to_string(after->second.number) + " of " + std::to_string(after->second.bytes) + " bytes";
    }
    const auto& [start, allocation] = *std::prev(after);
    const std::size_t offset = address - start;
    const std::string of =
        " allocation " + std::to_string(allocation.number) + " of " + std::to_string(allocation.bytes) + " bytes";
    if (offset < allocation.bytes) return std::to_string(offset) + " bytes into" + of;
    return std::to_string(offset - allocation.bytes) + " bytes past the end of" + of;
}

namespace {

// As much address space as the system grants, up to `bytes`: where it is limited, less device memory must do.
MemoryRange* largest_range(std::size_t bytes) {
    constexpr std::size_t kLeast = std::size_t{64} << 20;
    for (;; bytes /= 2) {
        try {
            return new MemoryRange(bytes);
        } catch (const std::bad_alloc&) {
            if (bytes <= kLeast) throw;
        }
    }
}

}  // namespace

// Never destroyed: a static object of the program may free its memory at exit.
MemoryRange& device_memory() {
    static MemoryRange& range = *largest_range(std::size_t{16} << 30);
    return range;
}

MemoryRange& pinned_memory() {
    static MemoryRange& range = *largest_range(std::size_t{2} << 30);
    return range;
}

}  // namespace emulation
