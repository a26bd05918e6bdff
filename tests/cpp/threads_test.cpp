// Many threads at once on the C interface: open, generate, stream, cancel, drop, deadlines, callbacks that throw,
// sessions that outlive their engine and change threads. Seconds to run: the environment's LRENGINE_STRESS_SECONDS (2).
// Built with -DLRENGINE_SANITIZE=thread it is the check that engines are as shareable as they say.
#include <chrono>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
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

// What the threads did, by name: at the end each must have happened.
class Counts {
public:
    void add(const std::string& name) {
        const std::lock_guard<std::mutex> lock(mutex_);
        ++counts_[name];
    }
    const std::map<std::string, int>& all() const { return counts_; }

private:
    std::mutex mutex_;
    std::map<std::string, int> counts_;
};

struct CallbackFailed {};

// The same texts, and what one thread alone gets for them.
struct Expected {
    explicit Expected(const Model& model) {
        const lrengine::Engine engine(model.path(), options_of(1));
        options.max_new_tokens = kTokens;
        texts.stop = {"<end>", "aab"};
        texts.max_new_tokens = kTokens;
        texts.suppress_tokens = {2};
        for (unsigned i = 0; i < 4; ++i) {
            sources.push_back(ids(2 + i, i));
            tokens.push_back(engine.generate({sources.back()}, options)[0].tokens);
            words.push_back(std::string(1 + i, 'a') + "b\xc3\xa9");
            answers.push_back(engine.generate({words.back()}, texts)[0].text);
        }
    }

    lrengine::GenerateOptions options, texts;
    std::vector<std::vector<std::int32_t>> sources, tokens;
    std::vector<std::string> words, answers;
};

class Worker {
public:
    Worker(const Model& model, const Expected& expected, Shared& shared, Counts& counts, unsigned seed)
        : model_(model), expected_(expected), shared_(shared), counts_(counts), random_(seed) {}

    void turn() {
        using Turn = void (Worker::*)(const lrengine::Engine&);
        static constexpr Turn kTurns[] = {
            &Worker::replace_the_engine, &Worker::generate,         &Worker::generate,
            &Worker::generate_from_text, &Worker::hear_tokens,      &Worker::throw_in_a_token,
            &Worker::run_late,           &Worker::cancel_in_flight, &Worker::leave_a_session,
            &Worker::outlive_the_engine, &Worker::ask_nonsense,     &Worker::score_and_encode};
        const std::shared_ptr<lrengine::Engine> engine = shared_.get();
        (this->*kTurns[random_() % std::size(kTurns)])(*engine);
    }

private:
    void count(const std::string& name, bool right = true) { counts_.add(right ? name : "wrong: " + name); }
    std::chrono::microseconds a_while(unsigned most) { return std::chrono::microseconds(random_() % most); }

    void replace_the_engine(const lrengine::Engine&) {
        shared_.set(std::make_shared<lrengine::Engine>(model_.path(), options_of(1 + static_cast<int>(random_() % 3))));
        count("opened");
    }

    void generate(const lrengine::Engine& engine) {
        const std::size_t which = random_() % expected_.sources.size();
        const auto answers = engine.generate({expected_.sources[which]}, expected_.options);
        count("generated", answers[0].tokens == expected_.tokens[which]);
    }

    void generate_from_text(const lrengine::Engine& engine) {
        const std::size_t which = random_() % expected_.words.size();
        const auto answers = engine.generate({expected_.words[which]}, expected_.texts);
        count("texts", answers[0].text == expected_.answers[which]);
    }

    void hear_tokens(const lrengine::Engine& engine) {
        const std::size_t which = random_() % expected_.words.size();
        std::string heard;
        const auto hear = [&](const lrengine::Token& token) {
            heard += token.text;
            return true;
        };
        const lrengine::Generation answer = engine.stream(expected_.words[which], hear, expected_.texts);
        count("streamed", heard == expected_.answers[which] && answer.text == heard);
    }

    void throw_in_a_token(const lrengine::Engine& engine) {
        const unsigned last = 1 + random_() % 3;
        unsigned calls = 0;
        try {
            engine.stream(
                expected_.sources[0],
                [&](const lrengine::Token&) {
                    if (++calls == last) throw CallbackFailed();
                    return true;
                },
                expected_.options);
            count("thrown", calls < last);  // the row was shorter
        } catch (const CallbackFailed&) {
            count("thrown", calls == last);
        }
    }

    void run_late(const lrengine::Engine& engine) {
        lrengine::Limits limits;
        limits.deadline = std::chrono::microseconds(1) + a_while(300);
        const std::vector<lrengine::Input> inputs(2, expected_.sources[1]);
        const auto found = engine.try_generate(inputs, expected_.options, limits);
        if (found.status() == lrengine::Status::kDeadline) return count("late", found.has_value());
        count("in time", found.ok() && (*found)[1].tokens == expected_.tokens[1]);
    }

    // One flag for two requests of two threads.
    void cancel_in_flight(const lrengine::Engine& engine) {
        lrengine::Cancellation cancellation;
        lrengine::Limits limits;
        limits.cancellation = &cancellation;
        const std::vector<lrengine::Input> inputs(3, expected_.sources[0]);
        const auto delay = a_while(500);
        std::thread other([&] {
            engine.try_generate({inputs.data(), 1}, expected_.options, limits);
            std::this_thread::sleep_for(delay);
            cancellation.request();
        });
        lrengine::Status last = lrengine::Status::kOk;
        while (last == lrengine::Status::kOk) last = engine.try_generate(inputs, expected_.options, limits).status();
        other.join();
        count("cancelled", last == lrengine::Status::kCancelled);
    }

    // Cancelled by another thread at any moment of its steps, and dropped.
    void leave_a_session(const lrengine::Engine& engine) {
        lrengine::Session session = engine.start({expected_.sources[1], expected_.sources[2]}, expected_.options);
        const auto delay = a_while(300);
        std::thread other([&] {
            std::this_thread::sleep_for(delay);
            session.cancel();
            session.cancel();
        });
        while (!session.step()) {
        }
        other.join();
        count("left");
    }

    // Started here, finished by another thread after this one gave the engine back.
    void outlive_the_engine(const lrengine::Engine&) {
        lrengine::Session session;
        {
            const lrengine::Engine engine(model_.path(), options_of(2));
            session = engine.start({expected_.sources[3]}, expected_.options);
            if (random_() % 2 == 0) session.step();
        }
        std::thread([&] {
            while (!session.step()) {
            }
        }).join();
        count("outlived", session.results()[0][0].tokens == expected_.tokens[3]);
    }

    void ask_nonsense(const lrengine::Engine& engine) {
        const std::vector<lrengine::Input> wild = {std::vector<std::int32_t>{1, 2, 999}};
        const auto found = engine.try_generate(wild, expected_.options);
        count("refused", found.message().find("999") != std::string::npos);
    }

    void score_and_encode(const lrengine::Engine& engine) {
        engine.score({lrengine::Input(expected_.sources[0], {}, expected_.sources[1])});
        engine.encode({expected_.sources[2]}, lrengine::EncodeOutput::kAll);
        count("scored", engine.memory().weight_bytes > 0);
    }

    const Model& model_;
    const Expected& expected_;
    Shared& shared_;
    Counts& counts_;
    std::mt19937 random_;
};

TEST(eight_threads_open_generate_cancel_and_drop) {
    Model model(Model::Kind::kSwcm);
    model.add_tokenizer();
    const Expected expected(model);
    Shared shared;
    shared.set(std::make_shared<lrengine::Engine>(model.path(), options_of(2)));
    Counts counts;
    const auto end = std::chrono::steady_clock::now() + duration();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i) {
        threads.emplace_back([&, i] {
            Worker worker(model, expected, shared, counts, i);
            while (std::chrono::steady_clock::now() < end) worker.turn();
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& [name, count] : counts.all()) {
        std::cout << count << ' ' << name << '\n';
        CHECK(name.rfind("wrong", 0) != 0);
    }
    for (const char* name : {"opened", "generated", "texts", "streamed", "thrown", "late", "cancelled", "left",
                             "outlived", "refused", "scored"}) {
        CHECK(counts.all().count(name) == 1);
    }
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
