// A stack of its own for every thread of a block, and the switch between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulation {

inline constexpr std::size_t kStackBytes = 64 * 1024;

// Leaves the running context in *save and goes on with `load`; returns when somebody switches back.
extern "C" void emulation_switch_context(void** save, void* load);

// A context which, when first switched to, calls `entry` on the stack [low, low + kStackBytes). `color` varies the
// depth at which stacks begin: equal depths would compete for the same cache lines.
void* new_context(std::byte* low, std::size_t color, void (*entry)());

// Stacks with an unmapped page below each, made once and used again by every launch.
class StackPool {
public:
    ~StackPool();
    // The i-th stack; throws std::bad_alloc.
    std::byte* at(std::size_t i) {
        while (i >= stacks_.size()) add_slab();
        return stacks_[i];
    }

private:
    struct Slab {
        void* memory;
        std::size_t bytes;
    };
    void add_slab();
    std::vector<std::byte*> stacks_;
    std::vector<Slab> slabs_;
};

}  // namespace emulation
