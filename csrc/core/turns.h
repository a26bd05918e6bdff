// A lock for callers that come back often, each of whom gets its share: what ThreadPool's callers wait at.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace lrengine {

// First come, first served, a slice of time a turn. Alone, lock() and unlock() are one atomic operation each. Once
// another thread waits, the one that has the lock keeps its claim for `slice`: until then it may unlock and lock again
// before those who wait, so that a turn holds many short jobs and threads are not woken for each. The first unlock()
// after that hands the lock to whoever has waited longest. A claim that is not used for a moment ends.
// `slice` zero: a turn is one lock(). Meets the standard's BasicLockable.
class Turns {
public:
    explicit Turns(std::chrono::nanoseconds slice) : slice_(slice) {}
    Turns(const Turns&) = delete;
    Turns& operator=(const Turns&) = delete;

    void lock();
    void unlock();
    int waiting() const;  // threads inside lock() that sleep

private:
    using Clock = std::chrono::steady_clock;
    struct Waiter;

    void wait(std::unique_lock<std::mutex>& guard);
    void hand_over();  // to the first in the queue, which is not empty

    // kTaken, and kAwaited while the queue is not empty. With kAwaited it changes under `mutex_` alone.
    std::atomic<unsigned> word_{0};
    std::atomic<const void*> claimant_{nullptr};  // who had the lock last
    const std::chrono::nanoseconds slice_;

    mutable std::mutex mutex_;  // guards what follows
    Waiter* first_ = nullptr;
    Waiter* last_ = nullptr;
    Clock::time_point claim_ends_;
    std::uint64_t unlocks_ = 0;  // with somebody waiting
};

}  // namespace lrengine
