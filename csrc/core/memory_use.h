// How much memory the requests of an engine hold: counted where arenas take and give back their blocks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>

namespace lrengine {

// Thread-safe.
class MemoryUse {
public:
    void add(std::size_t bytes) {
        const std::size_t now = now_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
        std::size_t peak = peak_.load(std::memory_order_relaxed);
        while (peak < now && !peak_.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
        }
    }
    void subtract(std::size_t bytes) { now_.fetch_sub(bytes, std::memory_order_relaxed); }

    std::size_t now() const { return now_.load(std::memory_order_relaxed); }
    std::size_t peak() const { return std::max(now(), peak_.load(std::memory_order_relaxed)); }

private:
    std::atomic<std::size_t> now_ = 0, peak_ = 0;
};

}  // namespace lrengine
