#include "core/turns.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "harness.h"

using namespace lrengine;
using Clock = std::chrono::steady_clock;

namespace {

constexpr auto kForever = std::chrono::hours(1);

void wait_until(const std::function<bool()>& condition) {
    const auto deadline = Clock::now() + std::chrono::seconds(30);
    while (!condition()) {
        if (Clock::now() > deadline) throw std::runtime_error("waited 30 s for another thread");
        std::this_thread::yield();
    }
}

}  // namespace

TEST(turns_without_a_slice_are_first_come_first_served) {
    Turns turns(std::chrono::nanoseconds(0));
    for (int round = 0; round < 20; ++round) {
        std::vector<int> order;
        std::vector<std::thread> threads;
        turns.lock();
        for (int i = 0; i < 6; ++i) {
            threads.emplace_back([&, i] {
                const std::lock_guard guard(turns);
                order.push_back(i);
            });
            wait_until([&] { return turns.waiting() == i + 1; });
        }
        turns.unlock();
        {
            const std::lock_guard guard(turns);  // behind all of them
            order.push_back(6);
        }
        for (std::thread& thread : threads) thread.join();
        CHECK(order == (std::vector<int>{0, 1, 2, 3, 4, 5, 6}));
    }
}

TEST(a_turn_ends_with_its_slice) {
    constexpr auto kSlice = std::chrono::milliseconds(2);
    Turns turns(kSlice);
    for (int round = 0; round < 20; ++round) {
        std::atomic<bool> served{false};
        turns.lock();
        std::thread other([&] {
            const std::lock_guard guard(turns);
            served = true;
        });
        wait_until([&] { return turns.waiting() == 1; });
        const auto end = Clock::now() + kSlice;
        int late = 0;  // times that the lock was given back after the slice
        while (!served.load()) {
            late += Clock::now() > end ? 1 : 0;
            turns.unlock();
            turns.lock();
        }
        turns.unlock();
        other.join();
        CHECK(late <= 1);
    }
}

TEST(a_turn_that_is_not_used_ends) {
    Turns turns(kForever);
    turns.lock();
    std::atomic<int> served{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            const std::lock_guard guard(turns);
            served++;
        });
    }
    wait_until([&] { return turns.waiting() == 3; });
    turns.unlock();  // and never comes back
    wait_until([&] { return served.load() == 3; });
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(turns.waiting(), 0);
}

TEST(turns_belong_to_one_thread_at_a_time) {
    for (const auto slice : {std::chrono::microseconds(0), std::chrono::microseconds(30)}) {
        Turns turns(slice);
        std::int64_t sum = 0;  // not atomic: the lock guards it
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; ++i) {
            threads.emplace_back([&] {
                for (int turn = 0; turn < 3000; ++turn) {
                    const std::lock_guard guard(turns);
                    ++sum;
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        CHECK_EQUAL(sum, 8 * 3000);
    }
}
