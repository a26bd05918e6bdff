// Large blocks of memory that were given back, for the next who ask for as much: their pages are there, so the kernel
// does not have to clear and map them again (4 to 13 ms of a request of a thousand tokens).
#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

namespace lrengine {

// Blocks are std::aligned_alloc()'s, freed with the cache. Thread-safe; nobody waits: who finds it busy goes without,
// and so does a child of fork() that was made in such a moment.
class BlockCache {
public:
    explicit BlockCache(std::size_t most) : most_(most) {}
    ~BlockCache();
    BlockCache(const BlockCache&) = delete;
    BlockCache& operator=(const BlockCache&) = delete;

    struct Block {
        void* memory = nullptr;
        std::size_t size = 0;
    };

    // A block of at least `bytes`, and not more than half as much again; memory is null if there is none. Then as many
    // bytes are freed, those that have been here longest first: memory does not grow by what lies here unused.
    Block take(std::size_t bytes);

    // False: the block stays the caller's. Blocks that have been here longest make room.
    bool keep(Block block);

    // Frees all that is here, for who finds no memory elsewhere; false if that is nothing, or the cache is busy.
    bool clear();

private:
    void free_oldest(std::size_t bytes);

    const std::size_t most_;
    std::mutex mutex_;
    std::vector<Block> blocks_;  // oldest first
    std::size_t kept_ = 0;       // bytes
};

}  // namespace lrengine
