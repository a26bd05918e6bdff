// The search for NaN and Inf beside the program: found wherever they are, told in every call, and ended in time.
#include "core/weight_search.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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
                CHECK_ERROR(search.refuse_found(), ErrorCode::kModelFile, "w1");
            }
            tensors.values[1][place] = 1.0f;
        }
        WeightSearch search;
        tensors.fill(search);
        if (started) search.start();
        for (int call = 0; call < 3; ++call) search.finish();
        search.refuse_found();
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

// A deadline or Ctrl-C while a request waits: it ends, the search goes on, and the next request has its answer.
TEST(an_interruption_ends_the_wait_alone) {
    Tensors tensors(2);
    tensors.values[1].back() = NAN;
    for (const bool started : {true, false}) {
        WeightSearch search;
        tensors.fill(search);
        bool interrupted = false;
        if (!started) {  // nobody else searches, so that there is something to interrupt
            try {
                search.finish([] { throw std::runtime_error("enough"); });
            } catch (const std::runtime_error& error) {
                interrupted = std::string(error.what()) == "enough";
            }
            CHECK(interrupted);
            search.refuse_found();  // the first part is sound
        } else {
            search.start();
        }
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

// The child has no thread that would go on with the parts that the parent's had taken.
TEST(a_forked_child_searches_anew) {
    Tensors tensors(4);
    tensors.values[3].back() = NAN;
    for (int i = 0; i < 10; ++i) {
        WeightSearch search;
        tensors.fill(search);
        search.start();
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);  // a child that hangs is a failure
            int refused = 0;
            for (int call = 0; call < 2; ++call) {
                try {
                    search.finish();
                } catch (const Error&) {
                    ++refused;
                }
            }
            search.~WeightSearch();  // as by an engine that the child closes; _exit() runs no other destructor
            ::_exit(refused == 2 ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK_ERROR(search.finish(), ErrorCode::kModelFile, "w3");
    }
}
