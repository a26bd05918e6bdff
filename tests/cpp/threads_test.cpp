// Many threads at once on the C interface: open, generate, cancel, drop, callbacks that end requests, sessions that
// outlive their engine. Seconds to run: the environment's LRENGINE_STRESS_SECONDS (2). Built with
// -DLRENGINE_SANITIZE=thread it is the check that engines are as shareable as they say.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.hpp"

namespace {

using capi_models::ids;
using capi_models::Model;

constexpr int kThreads = 8;
constexpr std::int64_t kTokens = 8;

std::chrono::seconds duration() {
    const char* seconds = std::getenv("LRENGINE_STRESS_SECONDS");
    return std::chrono::seconds(seconds == nullptr ? 2 : std::atoi(seconds));
}

lrengine::EngineOptions options_of(int threads) {
    lrengine::EngineOptions options;
    options.device = "cpu";
    options.threads = threads;
    return options;
}

// An engine that threads take and replace: what one drops, another may still use.
class Shared {
public:
    std::shared_ptr<lrengine::Engine> get() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return engine_;
    }
    void set(std::shared_ptr<lrengine::Engine> engine) {
        const std::lock_guard<std::mutex> lock(mutex_);
        engine_ = std::move(engine);
    }

private:
    std::mutex mutex_;
    std::shared_ptr<lrengine::Engine> engine_;
};

struct Counts {
    std::atomic<int> generated = 0, wrong = 0, cancelled = 0, opened = 0, refused = 0;
};

class Worker {
public:
    Worker(const Model& model, Shared& shared, Counts& counts, unsigned seed)
        : model_(model), shared_(shared), counts_(counts), random_(seed) {
        options_.max_new_tokens = kTokens;
        for (unsigned i = 0; i < 4; ++i) {
            sources_.push_back(ids(2 + i, i));
            expected_.push_back(model.greedy(sources_.back(), kTokens).tokens);
        }
    }

    void turn() {
        const std::shared_ptr<lrengine::Engine> engine = shared_.get();
        switch (random_() % 8) {
            case 0:
                shared_.set(std::make_shared<lrengine::Engine>(model_.path(), options_of(1 + random_() % 3)));
                ++counts_.opened;
                return;
            case 1:
                return cancel_in_flight(*engine);
            case 2:
                return leave_a_session(*engine);
            case 3:
                counts_.refused += engine->try_generate(wild_, options_).ok() ? 0 : 1;
                return;
            case 4:
                engine->score({lrengine::Input(sources_[0], {}, sources_[1])});
                return;
            default:
                return generate(*engine);
        }
    }

private:
    void generate(const lrengine::Engine& engine) {
        const std::size_t which = random_() % sources_.size();
        const auto answers = engine.generate({sources_[which]}, options_);
        ++counts_.generated;
        counts_.wrong += answers[0].tokens == expected_[which] ? 0 : 1;
    }

    void cancel_in_flight(const lrengine::Engine& engine) {
        lrengine::Cancellation cancellation;
        lrengine::Limits limits;
        limits.cancellation = &cancellation;
        const auto delay = std::chrono::microseconds(random_() % 500);
        std::thread other([&] {
            std::this_thread::sleep_for(delay);
            cancellation.request();
        });
        const std::vector<lrengine::Input> inputs(3, sources_[0]);
        const auto found = engine.try_generate(inputs, options_, limits);
        other.join();
        counts_.cancelled += found.status() == lrengine::Status::kCancelled ? 1 : 0;
    }

    // Cancelled by another thread at any moment of its steps, and dropped.
    void leave_a_session(const lrengine::Engine& engine) {
        lrengine::Session session = engine.start({sources_[1], sources_[2]}, options_);
        const auto delay = std::chrono::microseconds(random_() % 300);
        std::thread other([&] {
            std::this_thread::sleep_for(delay);
            session.cancel();
        });
        while (!session.step()) {
        }
        other.join();
    }

    const Model& model_;
    Shared& shared_;
    Counts& counts_;
    std::mt19937 random_;
    lrengine::GenerateOptions options_;
    std::vector<std::vector<std::int32_t>> sources_, expected_;
    const std::vector<lrengine::Input> wild_ = {std::vector<std::int32_t>{1, 2, 999}};
};

TEST(eight_threads_open_generate_cancel_and_drop) {
    const Model model(Model::Kind::kSwcm);
    Shared shared;
    shared.set(std::make_shared<lrengine::Engine>(model.path(), options_of(2)));
    Counts counts;
    const auto end = std::chrono::steady_clock::now() + duration();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i) {
        threads.emplace_back([&, i] {
            Worker worker(model, shared, counts, i);
            while (std::chrono::steady_clock::now() < end) worker.turn();
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(counts.wrong.load(), 0);
    CHECK(counts.generated > 0 && counts.opened > 0 && counts.refused > 0 && counts.cancelled > 0);
    std::cout << counts.generated << " generated, " << counts.cancelled << " cancelled, " << counts.opened
              << " opened, " << counts.refused << " refused\n";
}

// Whoever waits is served: no thread is kept out by the others for a whole second.
TEST(no_thread_starves) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), options_of(2));
    lrengine::GenerateOptions options;
    options.max_new_tokens = kTokens;
    std::vector<int> turns(kThreads, 0);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    std::vector<std::thread> threads;
    for (int& count : turns) {
        threads.emplace_back([&] {
            for (; std::chrono::steady_clock::now() < end; ++count) engine.generate({ids(5, 1)}, options);
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(*std::min_element(turns.begin(), turns.end()) > 0);
}

// Weights are there once: what eight requests add is theirs alone.
TEST(eight_sessions_share_the_weights) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), options_of(1));
    lrengine::GenerateOptions options;
    options.max_new_tokens = kTokens;
    std::vector<lrengine::Session> sessions;
    std::uint64_t one = 0;
    for (int i = 0; i < kThreads; ++i) {
        sessions.push_back(engine.start({ids(5, 1)}, options));
        sessions.back().step();
        if (i == 0) one = engine.memory().request_bytes;
    }
    CHECK_EQUAL(engine.memory().request_bytes, kThreads * one);
    sessions.clear();
    CHECK_EQUAL(engine.memory().request_bytes, 0u);
}

}  // namespace
