#include "core/block_cache.h"

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "harness.h"

using namespace lrengine;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

BlockCache::Block block_of(std::size_t bytes) { return {std::aligned_alloc(64, bytes), bytes}; }

void free_block(const BlockCache::Block& block) { std::free(block.memory); }

}  // namespace

TEST(block_cache_gives_what_was_kept_once) {
    BlockCache cache(64 * kMiB);
    CHECK(cache.take(2 * kMiB).memory == nullptr);
    const BlockCache::Block block = block_of(2 * kMiB);
    REQUIRE(cache.keep(block));
    const BlockCache::Block again = cache.take(2 * kMiB);
    CHECK(again.memory == block.memory);
    CHECK_EQUAL(again.size, 2 * kMiB);
    CHECK(cache.take(2 * kMiB).memory == nullptr);
    free_block(again);
}

TEST(block_cache_gives_the_smallest_that_is_large_enough_and_none_that_is_far_too_large) {
    BlockCache cache(64 * kMiB);
    const BlockCache::Block five = block_of(5 * kMiB), four = block_of(4 * kMiB);
    REQUIRE(cache.keep(five));
    REQUIRE(cache.keep(four));
    const BlockCache::Block found = cache.take(4 * kMiB - 64);
    CHECK(found.memory == four.memory);
    const BlockCache::Block other = cache.take(4 * kMiB);
    CHECK(other.memory == five.memory);
    CHECK_EQUAL(other.size, 5 * kMiB);
    free_block(found);
    free_block(other);
}

TEST(block_cache_gives_nothing_far_too_large) {
    BlockCache cache(64 * kMiB);
    REQUIRE(cache.keep(block_of(5 * kMiB)));
    CHECK(cache.take(3 * kMiB).memory == nullptr);
}

// What is taken, and what makes room, counts no longer.
TEST(block_cache_keeps_as_much_as_it_may) {
    BlockCache cache(8 * kMiB);
    for (int turn = 0; turn < 3; ++turn) {
        const BlockCache::Block first = block_of(4 * kMiB), second = block_of(4 * kMiB);
        REQUIRE(cache.keep(block_of(8 * kMiB)));
        REQUIRE(cache.keep(first));  // the 8 go
        REQUIRE(cache.keep(second));
        const BlockCache::Block one = cache.take(4 * kMiB), other = cache.take(4 * kMiB);
        CHECK(one.memory == first.memory);
        CHECK(other.memory == second.memory);
        free_block(one);
        free_block(other);
    }
}

// What it cannot give is taken elsewhere: it gives up as much, so that the two together do not grow.
TEST(block_cache_makes_room_for_what_it_does_not_have) {
    BlockCache cache(64 * kMiB);
    const BlockCache::Block last = block_of(8 * kMiB);
    REQUIRE(cache.keep(block_of(2 * kMiB)));
    REQUIRE(cache.keep(block_of(2 * kMiB)));
    REQUIRE(cache.keep(last));
    CHECK(cache.take(3 * kMiB).memory == nullptr);  // 8 are too large, 2 + 2 go
    CHECK(cache.take(2 * kMiB).memory == nullptr);  // none is left, and the 8 go
    CHECK(cache.take(8 * kMiB).memory == nullptr);
    const BlockCache::Block again = block_of(8 * kMiB);
    REQUIRE(cache.keep(again));
    CHECK(cache.take(1024).memory == nullptr);  // small: comes from the heap
    const BlockCache::Block found = cache.take(8 * kMiB);
    CHECK(found.memory == again.memory);
    free_block(found);
}

TEST(block_cache_leaves_small_blocks_and_too_large_ones_to_their_owner) {
    BlockCache cache(8 * kMiB);
    for (const std::size_t bytes : {kMiB / 2, 9 * kMiB}) {
        const BlockCache::Block block = block_of(bytes);
        CHECK(!cache.keep(block));
        free_block(block);
    }
}

TEST(block_cache_keeps_no_more_than_it_may) {
    BlockCache cache(8 * kMiB);
    const BlockCache::Block oldest = block_of(3 * kMiB), second = block_of(4 * kMiB), last = block_of(2 * kMiB);
    REQUIRE(cache.keep(oldest));
    REQUIRE(cache.keep(second));
    REQUIRE(cache.keep(last));  // 9 MiB: the oldest is freed
    const BlockCache::Block rest = cache.take(2 * kMiB), found = cache.take(3 * kMiB);
    CHECK(rest.memory == last.memory);
    CHECK(found.memory == second.memory);
    free_block(found);
    free_block(rest);
}

TEST(block_cache_gives_all_up) {
    BlockCache cache(8 * kMiB);
    CHECK(!cache.clear());
    REQUIRE(cache.keep(block_of(2 * kMiB)));
    REQUIRE(cache.keep(block_of(3 * kMiB)));
    CHECK(cache.clear());
    CHECK(cache.take(2 * kMiB).memory == nullptr);
    CHECK(!cache.clear());
    for (int i = 0; i < 2; ++i) REQUIRE(cache.keep(block_of(4 * kMiB)));  // what went does not count
    const BlockCache::Block one = cache.take(4 * kMiB), other = cache.take(4 * kMiB);
    CHECK(one.memory != nullptr && other.memory != nullptr);
    free_block(one);
    free_block(other);
}

// No block is given to two threads: each fills its own and finds it as it left it.
TEST(block_cache_of_several_threads) {
    BlockCache cache(6 * kMiB);
    std::vector<std::thread> threads;
    std::vector<int> broken(4, 0);
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&cache, &count = broken[static_cast<std::size_t>(t)], t] {
            for (int turn = 0; turn < 200; ++turn) {
                BlockCache::Block block = cache.take(kMiB);
                if (block.memory == nullptr) block = block_of(kMiB);
                auto* bytes = static_cast<unsigned char*>(block.memory);
                std::memset(bytes, t + 1, 4096);
                std::this_thread::yield();
                for (int i = 0; i < 4096; ++i) count += bytes[i] != t + 1;
                if (!cache.keep(block)) free_block(block);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const int count : broken) CHECK_EQUAL(count, 0);
}
