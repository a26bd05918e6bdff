// Many threads at once on the C interface, on models of every kind: open, generate, stream, cancel, drop, deadlines,
// callbacks that throw, sessions that outlive their engine and change threads. Seconds to run: the environment's
// LRENGINE_STRESS_SECONDS (2). Built with -DLRENGINE_SANITIZE=thread it is the check that engines are as shareable as
// they say.
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
constexpr std::int32_t kLlmVocabulary = 41;  // of capi_models' LLM

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

// The same requests, and what one thread alone gets for them.
struct Expected {
    explicit Expected(const Model& model) {
        const lrengine::Engine engine(model.path(), options_of(1));
        options.max_new_tokens = kTokens;
        texts.stop = {"<end>", "aab"};
        texts.max_new_tokens = kTokens;
        texts.suppress_tokens = {2};
        for (unsigned i = 0; i < 4; ++i) {
            sources.push_back(ids(2 + i, i));
            for (std::int32_t& id : sources.back()) id %= kLlmVocabulary;  // they are targets too
            tokens.push_back(engine.generate({sources.back()}, options)[0].tokens);
            words.push_back(std::string(1 + i, 'a') + "b\xc3\xa9");
            answers.push_back(engine.generate({words.back()}, texts)[0].text);
        }
    }

    lrengine::GenerateOptions options, texts;
    std::vector<std::vector<std::int32_t>> sources, tokens;
    std::vector<std::string> words, answers;
};

// A model, its engine of the moment, and what its threads did.
struct Scene {
    explicit Scene(Model::Kind kind) : model(kind) {
        model.add_tokenizer();
        if (kind == Model::Kind::kFusion) model.add_prompt_template("{prompt}");
        shared.set(std::make_shared<lrengine::Engine>(model.path(), options_of(2)));
    }

    Model model;
    Shared shared;
    Counts counts;
};

// A thread of a scene: one of its kind's turns after the other.
class Worker {
public:
    Worker(Scene& scene, unsigned seed) : scene_(scene), random_(seed) {}
    virtual ~Worker() = default;

    void turn() {
        const std::shared_ptr<lrengine::Engine> engine = scene_.shared.get();
        if (random_() % 12 == 0) return replace_the_engine();
        take_turn(*engine);
    }

protected:
    void count(const std::string& name, bool right = true) { scene_.counts.add(right ? name : "wrong: " + name); }
    std::chrono::microseconds a_while(unsigned most) { return std::chrono::microseconds(random_() % most); }
    std::string path() const { return scene_.model.path(); }
    std::size_t choose(std::size_t count) { return random_() % count; }

private:
    virtual void take_turn(const lrengine::Engine& engine) = 0;

    void replace_the_engine() {
        scene_.shared.set(std::make_shared<lrengine::Engine>(path(), options_of(1 + static_cast<int>(random_() % 3))));
        count("opened");
    }

    Scene& scene_;
    std::mt19937 random_;
};

class GeneratingWorker final : public Worker {
public:
    GeneratingWorker(Scene& scene, const Expected& expected, unsigned seed)
        : Worker(scene, seed), expected_(expected) {}

private:
    void take_turn(const lrengine::Engine& engine) override {
        using Self = GeneratingWorker;
        using Turn = void (Self::*)(const lrengine::Engine&);
        static constexpr Turn kTurns[] = {&Self::generate,         &Self::generate,         &Self::generate_from_text,
                                          &Self::hear_tokens,      &Self::throw_in_a_token, &Self::run_late,
                                          &Self::cancel_in_flight, &Self::leave_a_session,  &Self::outlive_the_engine,
                                          &Self::ask_nonsense,     &Self::score_and_encode};
        (this->*kTurns[choose(std::size(kTurns))])(engine);
    }

    void generate(const lrengine::Engine& engine) {
        const std::size_t which = choose(expected_.sources.size());
        const auto answers = engine.generate({expected_.sources[which]}, expected_.options);
        count("generated", answers[0].tokens == expected_.tokens[which]);
    }

    void generate_from_text(const lrengine::Engine& engine) {
        const std::size_t which = choose(expected_.words.size());
        const auto answers = engine.generate({expected_.words[which]}, expected_.texts);
        count("texts", answers[0].text == expected_.answers[which]);
    }

    void hear_tokens(const lrengine::Engine& engine) {
        const std::size_t which = choose(expected_.words.size());
        std::string heard;
        const auto hear = [&](const lrengine::Token& token) {
            heard += token.text;
            return true;
        };
        const lrengine::Generation answer = engine.stream(expected_.words[which], hear, expected_.texts);
        count("streamed", heard == expected_.answers[which] && answer.text == heard);
    }

    void throw_in_a_token(const lrengine::Engine& engine) {
        const auto last = static_cast<unsigned>(1 + choose(3));
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
            const lrengine::Engine engine(path(), options_of(2));
            session = engine.start({expected_.sources[3]}, expected_.options);
            if (choose(2) == 0) session.step();
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

    const Expected& expected_;
};

class ClassifyingWorker final : public Worker {
public:
    ClassifyingWorker(Scene& scene, const std::vector<lrengine::Classification>& expected, unsigned seed)
        : Worker(scene, seed), expected_(expected) {}

    static std::vector<lrengine::Input> inputs() {
        return {ids(3, 1), ids(9, 2), ids(30, 3), std::string("ab\xc3\xa9"), ids(1, 4)};
    }

private:
    void take_turn(const lrengine::Engine& engine) override {
        using Turn = void (ClassifyingWorker::*)(const lrengine::Engine&);
        static constexpr Turn kTurns[] = {&ClassifyingWorker::classify, &ClassifyingWorker::classify,
                                          &ClassifyingWorker::classify_late, &ClassifyingWorker::cancel_in_flight,
                                          &ClassifyingWorker::encode};
        (this->*kTurns[choose(std::size(kTurns))])(engine);
    }

    bool right(const std::vector<lrengine::Classification>& found) const {
        for (std::size_t i = 0; i < expected_.size(); ++i) {
            if (found[i].label != expected_[i].label || found[i].probability != expected_[i].probability) return false;
        }
        return found.size() == expected_.size();
    }

    void classify(const lrengine::Engine& engine) { count("classified", right(engine.classify(inputs()))); }

    void classify_late(const lrengine::Engine& engine) {
        lrengine::Limits limits;
        limits.deadline = std::chrono::microseconds(1) + a_while(300);
        const auto found = engine.try_classify(inputs(), {}, limits);
        if (found.status() == lrengine::Status::kDeadline) return count("classified late");
        count("classified in time", found.ok() && right(*found));
    }

    void cancel_in_flight(const lrengine::Engine& engine) {
        lrengine::Cancellation cancellation;
        lrengine::Limits limits;
        limits.cancellation = &cancellation;
        const auto delay = a_while(500);
        std::thread other([&] {
            std::this_thread::sleep_for(delay);
            cancellation.request();
        });
        lrengine::Status last = lrengine::Status::kOk;
        while (last == lrengine::Status::kOk) last = engine.try_classify(inputs(), {}, limits).status();
        other.join();
        count("cancelled", last == lrengine::Status::kCancelled);
    }

    void encode(const lrengine::Engine& engine) {
        engine.encode(inputs(), lrengine::EncodeOutput::kWeights);
        count("encoded", engine.memory().weight_bytes > 0);
    }

    const std::vector<lrengine::Classification>& expected_;
};

void check_all_happened(const Counts& counts, const std::vector<const char*>& names) {
    for (const auto& [name, count] : counts.all()) {
        std::cout << count << ' ' << name << '\n';
        CHECK(name.rfind("wrong", 0) != 0);
    }
    for (const char* name : names) CHECK(counts.all().count(name) == 1);
}

TEST(eight_threads_open_generate_classify_cancel_and_drop) {
    Scene swcm(Model::Kind::kSwcm), fusion(Model::Kind::kFusion), classifier(Model::Kind::kClassifier);
    const Expected translations(swcm.model), answers(fusion.model);
    const std::vector<lrengine::Classification> labels =
        lrengine::Engine(classifier.model.path(), options_of(1)).classify(ClassifyingWorker::inputs());
    std::vector<std::unique_ptr<Worker>> workers;
    for (unsigned i = 0; i < 3; ++i) {
        workers.push_back(std::make_unique<GeneratingWorker>(swcm, translations, i));
        workers.push_back(std::make_unique<GeneratingWorker>(fusion, answers, i));
    }
    while (workers.size() < kThreads) {
        const auto seed = static_cast<unsigned>(workers.size());
        workers.push_back(std::make_unique<ClassifyingWorker>(classifier, labels, seed));
    }
    const auto end = std::chrono::steady_clock::now() + duration();
    std::vector<std::thread> threads;
    for (const auto& worker : workers) {
        threads.emplace_back([&] {
            while (std::chrono::steady_clock::now() < end) worker->turn();
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Scene* scene : {&swcm, &fusion}) {
        check_all_happened(scene->counts, {"opened", "generated", "texts", "streamed", "thrown", "late", "cancelled",
                                           "left", "outlived", "refused", "scored"});
    }
    check_all_happened(classifier.counts, {"opened", "classified", "classified late", "cancelled", "encoded"});
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
