// What the pool costs its callers, and how it shares itself among them.
//     thread_pool_bench [threads=2] [job_us=20] [seconds=1]
// For 1, 2, 4 and 8 callers that each run jobs of `job_us` of work a thread without a pause: jobs a second, the least
// served caller's share of an equal one, and the longest that any job took.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "core/thread_pool.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Caller {
    long jobs = 0;
    double longest_ms = 0.0;
};

void work(std::chrono::nanoseconds time) {
    const auto end = Clock::now() + time;
    while (Clock::now() < end) {
    }
}

Caller call(lrengine::ThreadPool& pool, std::chrono::nanoseconds job, Clock::time_point end) {
    Caller caller;
    for (auto began = Clock::now(); began < end; ++caller.jobs) {
        pool.run(pool.threads(), 1, [&](std::int64_t, std::int64_t) { work(job); });
        const auto now = Clock::now();
        caller.longest_ms = std::max(caller.longest_ms, std::chrono::duration<double, std::milli>(now - began).count());
        began = now;
    }
    return caller;
}

void measure(lrengine::ThreadPool& pool, std::size_t count, std::chrono::nanoseconds job, double seconds) {
    std::vector<Caller> callers(count);
    std::vector<std::thread> threads;
    const auto end = Clock::now() + std::chrono::microseconds(static_cast<std::int64_t>(seconds * 1e6));
    for (Caller& caller : callers) threads.emplace_back([&] { caller = call(pool, job, end); });
    for (std::thread& thread : threads) thread.join();
    long all = 0, least = callers[0].jobs;
    double longest = 0.0;
    for (const Caller& caller : callers) {
        all += caller.jobs;
        least = std::min(least, caller.jobs);
        longest = std::max(longest, caller.longest_ms);
    }
    std::printf(
        "%zu callers: %9.0f jobs/s, least share %.2f, longest %.2f ms\n", count, static_cast<double>(all) / seconds,
        static_cast<double>(least) * static_cast<double>(count) / static_cast<double>(std::max(all, 1L)), longest);
}

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const double microseconds = argc > 2 ? std::atof(argv[2]) : 20.0, seconds = argc > 3 ? std::atof(argv[3]) : 1.0;
    lrengine::ThreadPool pool(threads);
    const std::chrono::nanoseconds job(static_cast<std::int64_t>(microseconds * 1e3));
    for (const std::size_t callers : {1, 2, 4, 8}) measure(pool, callers, job, seconds);
    return 0;
}
