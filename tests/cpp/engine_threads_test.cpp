// The threads an engine has: as many as were asked for, whoever calls it, and asleep when nobody does.
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.hpp"

namespace {

using capi_models::ids;
using capi_models::Model;

constexpr int kCallers = 8, kThreads = 3;

std::size_t threads_of_this_process() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

// A thread that was joined is gone from /proc a moment later.
bool has_threads(std::size_t expected) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (threads_of_this_process() != expected && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
    }
    return threads_of_this_process() == expected;
}

// Processor time of this process, in microseconds.
std::int64_t processor_time() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& time) { return std::int64_t{1000000} * time.tv_sec + time.tv_usec; };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

lrengine::Engine open(const Model& model, int threads) {
    lrengine::EngineOptions options;
    options.device = "cpu";
    options.threads = threads;
    return lrengine::Engine(model.path(), options);
}

lrengine::GenerateOptions most(std::int64_t tokens) {
    lrengine::GenerateOptions options;
    options.max_new_tokens = tokens;
    return options;
}

// Counted where it could go wrong: while all of the callers are inside the engine.
TEST(an_engine_has_the_threads_that_were_asked_for_whoever_calls) {
    const std::size_t before = threads_of_this_process();
    const Model model(Model::Kind::kSwcm);
    {
        const lrengine::Engine engine = open(model, kThreads);
        engine.check_weights();
        CHECK(has_threads(before + kThreads - 1));  // and no other, once the weights' search has ended
        std::atomic<int> inside{0};
        std::atomic<std::size_t> counted{0};
        std::vector<std::thread> callers;
        for (unsigned i = 0; i < kCallers; ++i) {
            callers.emplace_back([&, i] {
                bool first = true;
                const auto meet = [&](const lrengine::Token&) {
                    if (!first) return true;
                    first = false;
                    if (inside.fetch_add(1) + 1 == kCallers) counted = threads_of_this_process();
                    while (counted.load() == 0) std::this_thread::yield();
                    return true;
                };
                engine.stream(ids(20, i), meet, most(6));
            });
        }
        for (std::thread& caller : callers) caller.join();
        CHECK_EQUAL(counted.load(), before + kThreads - 1 + kCallers);
        const lrengine::Engine other = open(model, 1);
        other.check_weights();
        other.generate({ids(20, 1)}, most(6));
        CHECK(has_threads(before + kThreads - 1));
    }
    CHECK(has_threads(before));
}

// Two workers that spun would take up to a second of processors in half a second; sleeping ones take nothing.
TEST(threads_of_an_engine_sleep_when_nobody_calls) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine = open(model, kThreads);
    engine.generate({ids(20, 1)}, most(6));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const std::int64_t before = processor_time();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    CHECK(processor_time() - before < 20000);
}

// A session that is not being stepped holds no turn and no thread.
TEST(idle_sessions_take_no_threads) {
    const std::size_t before = threads_of_this_process();
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine = open(model, kThreads);
    std::vector<lrengine::Session> sessions;
    for (unsigned i = 0; i < kCallers; ++i) {
        sessions.push_back(engine.start({ids(20, i)}, most(6)));
        sessions.back().step();
    }
    CHECK(has_threads(before + kThreads - 1));  // the engine's, once its weights' search has ended
    CHECK(engine.generate({ids(20, 1)}, most(6))[0].tokens == model.greedy(ids(20, 1), 6).tokens);
}

}  // namespace
