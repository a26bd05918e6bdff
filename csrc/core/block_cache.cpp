#include "core/block_cache.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace lrengine {

namespace {

// Smaller ones come from the heap, whose pages stay anyway.
constexpr std::size_t kSmallest = std::size_t{1} << 20;

}  // namespace

BlockCache::~BlockCache() {
    // In a child of fork() another thread may have been changing the list.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock) free_oldest(kept_);
}

BlockCache::Block BlockCache::take(std::size_t bytes) {
    if (bytes < kSmallest) return {};
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return {};
    auto best = blocks_.end();
    for (auto it = blocks_.begin(); it != blocks_.end(); ++it) {
        const bool fits = it->size >= bytes && it->size - bytes <= bytes / 2;
        if (fits && (best == blocks_.end() || it->size < best->size)) best = it;
    }
    if (best == blocks_.end()) {
        free_oldest(bytes);
        return {};
    }
    const Block block = *best;
    blocks_.erase(best);
    kept_ -= block.size;
    return block;
}

bool BlockCache::keep(Block block) {
    if (block.size < kSmallest || block.size > most_) return false;
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) return false;
    try {
        blocks_.push_back(block);
    } catch (const std::bad_alloc&) {
        return false;
    }
    kept_ += block.size;
    if (kept_ > most_) free_oldest(kept_ - most_);
    return true;
}

bool BlockCache::clear() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock || blocks_.empty()) return false;
    free_oldest(kept_);
    return true;
}

// At least so many bytes, or all.
void BlockCache::free_oldest(std::size_t bytes) {
    std::size_t freed = 0;
    auto end = blocks_.begin();
    for (; end != blocks_.end() && freed < bytes; ++end) {
        freed += end->size;
        std::free(end->memory);
    }
    kept_ -= freed;
    blocks_.erase(blocks_.begin(), end);
}

}  // namespace lrengine
