// The search for NaN and Inf beside the program: found wherever they are, told in every call, and ended in time.
#include "core/weight_search.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "harness.h"

using namespace lrengine;

namespace {

constexpr std::size_t kCount = 5'000'000;  // 20 MB: several parts, and a shorter last one

// Tensors in memory, as a checkpoint has them in its mapping.
struct Tensors {
    std::vector<std::vector<float>> values;
    std::vector<TensorRecord> records;

    explicit Tensors(std::size_t count) : values(count, std::vector<float>(kCount, 1.0f)), records(count) {
        for (std::size_t i = 0; i < count; ++i) {
            records[i].file = "file";
            records[i].name = "w" + std::to_string(i);
            records[i].shape = {static_cast<std::int64_t>(kCount)};
            records[i].data = values[i].data();
            records[i].bytes = kCount * sizeof(float);
        }
    }
    void fill(WeightSearch& search) const {
        for (const TensorRecord& record : records) search.add(record);
    }
};

}  // namespace

TEST(a_search_finds_what_is_anywhere) {
    Tensors tensors(2);
    for (const bool started : {true, false}) {
        for (const std::size_t place : {std::size_t{0}, kCount / 2, kCount - 1}) {
            for (const float bad : {NAN, INFINITY, -INFINITY}) {
                tensors.values[1][place] = bad;
                WeightSearch search;
                tensors.fill(search);
                if (started) search.start();
                for (int call = 0; call < 3; ++call) {
                    CHECK_ERROR(search.finish(), ErrorCode::kModelFile,
                                "file: w1: found NaN or Inf, expected finite numbers");
                }
            }
            tensors.values[1][place] = 1.0f;
        }
        WeightSearch search;
        tensors.fill(search);
        if (started) search.start();
        for (int call = 0; call < 3; ++call) search.finish();
    }
}

TEST(a_search_of_nothing_is_done) {
    WeightSearch search;
    search.start();
    search.finish();
    WeightSearch none;
    none.finish([] { throw std::runtime_error("called for nothing"); });
}

TEST(a_search_refuses_what_int8_never_is) {
    std::vector<std::int8_t> values(100, 1);
    TensorRecord record;
    record.file = "file";
    record.name = "q";
    record.dtype = DType::kInt8;
    record.data = values.data();
    record.bytes = values.size();
    const auto searched = [&] {
        WeightSearch search;
        search.add(record);
        search.start();
        search.finish();
    };
    searched();
    values[99] = -128;
    CHECK_ERROR(searched(), ErrorCode::kModelFile, "file: q: found -128, expected values from -127 to 127");
}

// Whatever finds what first.
TEST(the_first_of_several_is_named) {
    Tensors tensors(4);
    for (const std::size_t i : {1, 2, 3}) tensors.values[i].front() = tensors.values[i].back() = NAN;
    for (int round = 0; round < 30; ++round) {
        WeightSearch search;
        tensors.fill(search);
        search.start();
        CHECK_ERROR(search.finish(), ErrorCode::kModelFile, "w1");
    }
}

// A deadline or Ctrl-C while a request waits: it ends, the search goes on, and the next request has its answer.
TEST(an_interruption_ends_the_wait_alone) {
    Tensors tensors(2);
    tensors.values[1].back() = NAN;
    for (const bool started : {true, false}) {
        WeightSearch search;
        for (int copy = 0; copy < 20; ++copy) search.add(tensors.records[0]);
        tensors.fill(search);
        if (started) search.start();
        int calls = 0;
        for (int i = 0; i < 3; ++i) {
            try {
                search.finish([&] {
                    ++calls;
                    throw std::runtime_error("enough");
                });
            } catch (const std::runtime_error& error) {
                CHECK(std::string(error.what()) == "enough");
            }
        }
        CHECK_EQUAL(calls, 3);
        CHECK_ERROR(search.finish([] {}), ErrorCode::kModelFile, "w1");
    }
}

TEST(many_threads_may_wait) {
    Tensors tensors(3);
    for (const bool broken : {false, true}) {
        tensors.values[2].back() = broken ? INFINITY : 1.0f;
        WeightSearch search;
        tensors.fill(search);
        search.start();
        std::atomic<int> refused{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 6; ++i) {
            threads.emplace_back([&] {
                try {
                    search.finish();
                } catch (const Error&) {
                    ++refused;
                }
            });
        }
        for (std::thread& thread : threads) thread.join();
        CHECK_EQUAL(refused.load(), broken ? 6 : 0);
    }
}

// Engines that are dropped at once, mostly before their search has ended.
TEST(a_dropped_search_ends) {
    Tensors tensors(4);
    for (int i = 0; i < 50; ++i) {
        WeightSearch search;
        tensors.fill(search);
        search.start();
    }
}

// 0 when each of `refusals` calls of finish() refuses w1: a child's exit status.
int status_of_child(const WeightSearch& search, int refusals) {
    int refused = 0;
    for (int call = 0; call < refusals; ++call) {
        try {
            search.finish();
        } catch (const Error& error) {
            refused += std::string(error.what()).find("w1") != std::string::npos ? 1 : 0;
        }
    }
    return refused == refusals ? 0 : 1;
}

bool child_ended_well(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// A search of 840 MB, without as much memory, that finds something in its last tensor.
struct LongSearch {
    LongSearch() {
        tensors.values[1].back() = NAN;
        for (int copy = 0; copy < 40; ++copy) search.add(tensors.records[0]);
        tensors.fill(search);
        search.start();
    }

    Tensors tensors{2};
    WeightSearch search;
};

// The child has no thread that would go on with the parts that the parent's had taken.
TEST(a_forked_child_searches_anew) {
    for (int round = 0; round < 5; ++round) {
        LongSearch made;
        WeightSearch& search = made.search;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the thread is among its parts
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);  // a child that hangs is a failure
            const int status = status_of_child(search, 2);
            search.~WeightSearch();  // as by an engine that the child closes; _exit() runs no other destructor
            ::_exit(status);
        }
        CHECK(child_ended_well(child));
        CHECK_ERROR(search.finish(), ErrorCode::kModelFile, "w1");
    }
}

// A signal handler of the program's forks while a request waits, and the child's deadlines are shorter than its search.
TEST(a_child_that_is_forked_while_it_waits_comes_to_the_end) {
    const LongSearch made;
    const WeightSearch& search = made.search;
    pid_t child = -1;
    const auto fork_once = [&] {
        if (child >= 0) return;
        child = ::fork();
        if (child != 0) return;
        ::alarm(60);
        int ended = 0;
        for (bool waiting = true; waiting;) {
            try {
                search.finish([] { throw std::runtime_error("the child's deadline"); });
            } catch (const Error&) {
                waiting = false;
            } catch (const std::runtime_error&) {
                ++ended;
            }
        }
        ::_exit(ended > 100 ? status_of_child(search, 2) : 1);
    };
    CHECK_ERROR(search.finish(fork_once), ErrorCode::kModelFile, "w1");
    REQUIRE(child > 0);
    CHECK(child_ended_well(child));
}

// ... and a child that goes on waiting where it was.
TEST(a_child_that_is_forked_while_it_waits_goes_on) {
    const LongSearch made;
    const WeightSearch& search = made.search;
    pid_t child = -1;
    bool refused = false;
    try {
        search.finish([&] {
            if (child < 0) child = ::fork();
            if (child == 0) ::alarm(60);
        });
    } catch (const Error&) {
        refused = true;
    }
    if (child == 0) ::_exit(refused ? 0 : 1);
    REQUIRE(child > 0);
    CHECK(refused && child_ended_well(child));
}
