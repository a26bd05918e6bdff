// A fixed set of threads that run the pieces of one job at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace lrengine {

// `threads` counts the caller: a pool of 1 runs everything inline. Several callers are served in turns (core/turns.h),
// one job at a time. Workers spin briefly for the next job, then sleep. An exception in a piece reaches the caller of
// run() after every piece has ended. Safe after fork(): the child runs inline.
class ThreadPool {
public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const;

    // Calls body(begin, end) on disjoint ranges that cover [0, count); ranges are multiples of `grain` but for the
    // last.
    void run(std::int64_t count, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace lrengine
