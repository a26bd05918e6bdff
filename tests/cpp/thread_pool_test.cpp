#include "core/thread_pool.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "harness.h"

using namespace lrengine;

namespace {

// How often each index of [0, count) was visited.
std::vector<int> visits(ThreadPool& pool, std::int64_t count, std::int64_t grain) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
    pool.run(count, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)]++;
    });
    return {seen.begin(), seen.end()};
}

// Two pieces that wait for each other, so that neither thread can take both.
void run_on_two_threads(ThreadPool& pool, const std::function<void()>& body) {
    std::atomic<int> arrived{0};
    pool.run(2, 1, [&](std::int64_t, std::int64_t) {
        arrived++;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (arrived.load() < 2) {
            if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error("one thread alone");
            std::this_thread::yield();
        }
        body();
    });
}

// Whether a thread of this process waits for something (proc(5): the letter after the name in parentheses).
bool is_asleep(int thread) {
    std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string line;
    std::getline(file, line);
    const std::size_t end = line.rfind(") ");
    return end != std::string::npos && line[end + 2] == 'S';
}

}  // namespace

TEST(pool_covers_every_index_once) {
    for (const int threads : {1, 2, 3, 8}) {
        ThreadPool pool(threads);
        CHECK_EQUAL(pool.threads(), threads);
        for (const std::int64_t count : {0, 1, 2, 7, 64, 1000}) {
            for (const std::int64_t grain : {1, 3, 64, 5000}) {
                CHECK(visits(pool, count, grain) == std::vector<int>(static_cast<std::size_t>(count), 1));
            }
        }
    }
}

TEST(pool_cuts_at_multiples_of_the_grain) {
    ThreadPool pool(4);
    std::atomic<int> odd{0}, empty{0};
    pool.run(1003, 8, [&](std::int64_t begin, std::int64_t end) {
        if (begin % 8 != 0 || (end % 8 != 0 && end != 1003)) odd++;
        if (begin >= end) empty++;
    });
    CHECK_EQUAL(odd.load(), 0);
    CHECK_EQUAL(empty.load(), 0);
}

TEST(pool_uses_its_threads) {
    ThreadPool pool(2);
    std::atomic<int> arrived{0};
    run_on_two_threads(pool, [&] { arrived++; });
    CHECK_EQUAL(arrived.load(), 2);
}

TEST(pool_survives_many_small_jobs_and_pauses_between_them) {
    ThreadPool pool(3);
    std::atomic<std::int64_t> sum{0};
    for (int job = 0; job < 20000; ++job) {
        pool.run(3, 1, [&](std::int64_t begin, std::int64_t) { sum += begin; });
        if (job % 4000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // long enough to fall asleep
    }
    CHECK_EQUAL(sum.load(), 20000 * 3);
}

TEST(pool_carries_an_exception_after_all_pieces_ended) {
    ThreadPool pool(4);
    for (int failing = 0; failing < 4; ++failing) {
        std::atomic<int> ended{0};
        CHECK_ERROR(pool.run(4, 1,
                             [&](std::int64_t begin, std::int64_t) {
                                 if (begin == failing) fail(ErrorCode::kDevice, "piece failed");
                                 std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                 ended++;
                             }),
                    ErrorCode::kDevice, "piece failed");
        CHECK_EQUAL(ended.load(), 3);
    }
    CHECK(visits(pool, 100, 1) == std::vector<int>(100, 1));
}

TEST(pool_serves_several_callers) {
    ThreadPool pool(2);
    std::atomic<std::int64_t> total{0};
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) {
        callers.emplace_back([&] {
            for (int job = 0; job < 500; ++job) {
                pool.run(10, 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK_EQUAL(total.load(), 4 * 500 * 10);
}

// One caller never pauses, another has one job: it sleeps until its turn, which comes after half a millisecond, and not
// whenever the first one happens to be off the processor.
TEST(pool_serves_a_caller_that_waits_after_a_few_jobs) {
    constexpr int kRounds = 20;
    constexpr auto kJob = std::chrono::microseconds(200);
    ThreadPool pool(2);
    int overtaken = 0;
    for (int round = 0; round < kRounds; ++round) {
        std::atomic<int> waiting_thread{0};
        std::atomic<bool> served{false};
        pool.run(2, 1, [](std::int64_t, std::int64_t) {});
        std::thread other;
        for (int job = 0; !served.load(); ++job) {
            pool.run(2, 1, [&](std::int64_t begin, std::int64_t) {
                if (begin != 0) return;
                if (job == 0) {
                    other = std::thread([&] {
                        waiting_thread = static_cast<int>(::gettid());
                        pool.run(2, 1, [&](std::int64_t, std::int64_t) { served = true; });
                    });
                    while (waiting_thread.load() == 0 || !is_asleep(waiting_thread.load())) std::this_thread::yield();
                }
                const auto end = std::chrono::steady_clock::now() + kJob;
                while (std::chrono::steady_clock::now() < end) {
                }
            });
            ++overtaken;
        }
        other.join();
    }
    CHECK(overtaken <= kRounds * 10);
}

TEST(pool_runs_a_job_inside_a_job_inline) {
    ThreadPool pool(2);
    std::atomic<std::int64_t> total{0};
    pool.run(2, 1, [&](std::int64_t, std::int64_t) {
        pool.run(5, 1, [&](std::int64_t begin, std::int64_t end) { total += end - begin; });
    });
    CHECK_EQUAL(total.load(), 10);
}

TEST(pool_refuses_senseless_counts) {
    CHECK_ERROR(ThreadPool(0), ErrorCode::kInvalidArgument, "found 0");
    CHECK_ERROR(ThreadPool(-3), ErrorCode::kInvalidArgument, "found -3");
    CHECK_ERROR(ThreadPool(100000), ErrorCode::kInvalidArgument, "found 100000");
}

TEST(pool_runs_inline_in_a_forked_child_and_is_whole_in_the_parent) {
    auto pool = std::make_unique<ThreadPool>(3);
    std::atomic<bool> stop{false};
    // Another caller keeps the pool's lock busy while the process forks.
    std::thread busy([&] {
        while (!stop.load()) pool->run(30, 1, [](std::int64_t, std::int64_t) {});
    });
    int failures = 0;
    for (int i = 0; i < 20; ++i) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(20);  // a child that hangs is a failure
            std::int64_t sum = 0;
            pool->run(100, 1, [&](std::int64_t begin, std::int64_t end) { sum += end - begin; });
            pool.reset();
            ThreadPool own(2);  // a child may have threads of its own
            std::atomic<std::int64_t> more{0};
            own.run(10, 1, [&](std::int64_t begin, std::int64_t end) { more += end - begin; });
            ::_exit(sum == 100 && more == 10 ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        failures += !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    stop = true;
    busy.join();
    CHECK_EQUAL(failures, 0);
    CHECK(visits(*pool, 100, 1) == std::vector<int>(100, 1));
}

TEST(pool_workers_take_no_signals) {
    ThreadPool pool(2);
    std::atomic<int> blocked{0};
    const std::thread::id caller = std::this_thread::get_id();
    run_on_two_threads(pool, [&] {
        sigset_t set;
        pthread_sigmask(SIG_BLOCK, nullptr, &set);
        if (std::this_thread::get_id() != caller && sigismember(&set, SIGINT) == 1) blocked++;
        if (std::this_thread::get_id() == caller && sigismember(&set, SIGINT) == 0) blocked++;
    });
    CHECK_EQUAL(blocked.load(), 2);
}
