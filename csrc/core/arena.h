// Scratch memory of a session: bump allocation, rewound as a whole, so that the decode loop allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace lrengine {

class Backend;

// Grows by blocks the first time a shape is met and keeps them; after reset_to() the same requests get the same memory.
// Addresses are 64-byte aligned. Throws Error(kOutOfMemory) when the backend has no more. Not thread-safe.
class Arena {
public:
    explicit Arena(Backend& backend);
    ~Arena();
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    void* allocate(std::size_t bytes);

    // Contents are undefined (and poisoned with NaN when LRENGINE_POISON is defined).
    Matrix matrix(std::int64_t rows, std::int64_t cols, DType dtype);

    template <typename T>
    T* array(std::int64_t count) {
        return static_cast<T*>(allocate(static_cast<std::size_t>(count) * sizeof(T)));
    }

    struct Mark {
        std::size_t block;
        std::size_t used;
    };
    Mark mark() const;
    void reset_to(Mark mark);

    std::size_t reserved_bytes() const;

    // Appends what decides which memory the next requests get: equal words, equal addresses.
    void describe(std::vector<std::uint64_t>& words) const;

private:
    struct Block {
        void* data;
        std::size_t size;
    };
    Backend& backend_;
    std::vector<Block> blocks_;
    std::size_t block_ = 0;
    std::size_t used_ = 0;
};

// Gives back, at the end of a scope, everything taken from the arena inside it.
class ArenaScope {
public:
    explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
    ~ArenaScope() { arena_.reset_to(mark_); }
    ArenaScope(const ArenaScope&) = delete;
    ArenaScope& operator=(const ArenaScope&) = delete;

private:
    Arena& arena_;
    Arena::Mark mark_;
};

}  // namespace lrengine
