#include "core/turns.h"

#include <condition_variable>

namespace lrengine {

namespace {

constexpr unsigned kTaken = 1, kAwaited = 2;
// Longer than what a caller does between two jobs of a decode step, short against a slice.
constexpr std::chrono::microseconds kUnused{50};

// An address that only this thread has.
const void* this_thread() {
    static thread_local char mark;
    return &mark;
}

}  // namespace

struct Turns::Waiter {
    std::condition_variable wake;
    const void* thread = this_thread();
    bool has_lock = false;
    Waiter* next = nullptr;
};

void Turns::lock() {
    unsigned expected = 0;
    if (word_.compare_exchange_strong(expected, kTaken)) {
        claimant_.store(this_thread(), std::memory_order_relaxed);
        return;
    }
    std::unique_lock guard(mutex_);
    const bool taken = (word_.fetch_or(kAwaited) & kTaken) != 0;
    if (!taken && first_ == nullptr) {  // given back meanwhile
        claimant_.store(this_thread(), std::memory_order_relaxed);
        word_.store(kTaken);
        return;
    }
    if (!taken && claimant_.load(std::memory_order_relaxed) == this_thread() && Clock::now() < claim_ends_) {
        word_.store(kTaken | kAwaited);
        return;
    }
    wait(guard);
}

void Turns::wait(std::unique_lock<std::mutex>& guard) {
    Waiter self;
    if (first_ == nullptr) claim_ends_ = Clock::now() + slice_;
    (first_ == nullptr ? first_ : last_->next) = &self;
    last_ = &self;
    while (!self.has_lock) {
        const bool free = (word_.load() & kTaken) == 0, over = Clock::now() >= claim_ends_;
        if (first_ != &self || (over && !free)) {
            self.wake.wait(guard);
        } else if (over) {
            hand_over();
        } else {
            const std::uint64_t before = unlocks_;
            self.wake.wait_for(guard, kUnused);
            const bool unused = (word_.load() & kTaken) == 0 && unlocks_ == before;
            if (!self.has_lock && free && unused) hand_over();
        }
    }
}

void Turns::hand_over() {
    Waiter* const next = first_;
    first_ = next->next;
    word_.store(first_ == nullptr ? kTaken : kTaken | kAwaited);
    claimant_.store(next->thread, std::memory_order_relaxed);
    claim_ends_ = Clock::now() + slice_;
    next->has_lock = true;
    next->wake.notify_one();
    if (first_ != nullptr) first_->wake.notify_one();  // it is its turn to watch for the end of the claim
}

void Turns::unlock() {
    unsigned expected = kTaken;
    if (word_.compare_exchange_strong(expected, 0)) return;
    const std::lock_guard guard(mutex_);
    ++unlocks_;
    if (Clock::now() >= claim_ends_) {
        hand_over();
    } else {
        word_.store(kAwaited);
    }
}

int Turns::waiting() const {
    const std::lock_guard guard(mutex_);
    int count = 0;
    for (const Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next) ++count;
    return count;
}

}  // namespace lrengine
