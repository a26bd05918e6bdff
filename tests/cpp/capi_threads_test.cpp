// The C interface: sessions, and what threads and forked processes may do with an engine.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "capi_testing.h"

using namespace capi_testing;

namespace {

// AddressSanitizer's allocator is not made ready for fork() by every version: a child may find its locks taken.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kForksAmongThreads = false;
#elif defined(__has_feature)
constexpr bool kForksAmongThreads = !__has_feature(address_sanitizer);
#else
constexpr bool kForksAmongThreads = true;
#endif

// Steps until the session is done; the number of steps.
int finish(lrengine_session* session) {
    std::int32_t done = 0;
    int steps = 0;
    while (done == 0 && steps < 1000) {
        REQUIRE(lrengine_session_step(session, &done) == LRENGINE_OK);
        ++steps;
    }
    return steps;
}

std::vector<std::int32_t> answer_of(const lrengine_session* session) {
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_session_results(session, &answers) == LRENGINE_OK);
    const std::vector<std::int32_t> tokens = tokens_of(get(answers, 0, 0));
    lrengine_generations_free(answers);
    return tokens;
}

// Greedy, at most 6 tokens; empty when it fails.
std::vector<std::int32_t> generated(const lrengine_engine* engine, const std::vector<std::int32_t>& values) {
    const lrengine_input input = source(values);
    const lrengine_generate_options options = most(6);
    lrengine_generations* answers = nullptr;
    if (lrengine_generate(engine, &input, 1, &options, nullptr, &answers) != LRENGINE_OK) return {};
    const std::vector<std::int32_t> tokens = tokens_of(get(answers, 0, 0));
    lrengine_generations_free(answers);
    return tokens;
}

TEST(a_session_keeps_its_engine) {
    const Model model(Model::Kind::kSwcm);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    const lrengine_generate_options options = most(6);
    lrengine_session* session = nullptr;
    {
        const Opened opened(model);
        REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    }
    std::int32_t done = 0;
    std::vector<std::size_t> lengths;
    while (done == 0 && lengths.size() < 20) {
        REQUIRE(lrengine_session_step(session, &done) == LRENGINE_OK);
        lrengine_generations* answers = nullptr;
        REQUIRE(lrengine_session_results(session, &answers) == LRENGINE_OK);
        lengths.push_back(get(answers, 0, 0).token_count);
        if (done != 0) CHECK(tokens_of(get(answers, 0, 0)) == model.greedy(values, 6).tokens);
        lrengine_generations_free(answers);
    }
    CHECK(std::is_sorted(lengths.begin(), lengths.end()) && lengths.front() == 1);
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    lrengine_session_free(session);
}

TEST(a_session_can_be_cancelled_by_another_thread) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    lrengine_generate_options options = most(30);
    options.min_new_tokens = 30;
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    std::int32_t done = 0;
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    std::thread([&] { lrengine_session_cancel(session); }).join();
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    CHECK_EQUAL(done, 1);
    lrengine_session_free(session);
}

TEST(errors_belong_to_their_thread) {
    lrengine_engine* engine = nullptr;
    CHECK_FAILS(lrengine_open("/nowhere/here", nullptr, &engine), LRENGINE_MODEL_FILE, "/nowhere/here");
    std::thread([] {
        CHECK_EQUAL(std::string(lrengine_last_error()), std::string());
        lrengine_engine* other = nullptr;
        CHECK_FAILS(lrengine_open("/nowhere/there", nullptr, &other), LRENGINE_MODEL_FILE, "/nowhere/there");
    }).join();
    CHECK(last_error_has("/nowhere/here"));
    // Long messages are cut between characters.
    std::string path = "/nowhere/";
    for (int i = 0; i < 2000; ++i) path += "\xc3\xa9";
    CHECK(lrengine_open(path.c_str(), nullptr, &engine) != LRENGINE_OK);
    const std::string message = lrengine_last_error();
    CHECK(message.size() < 2048 && (static_cast<unsigned char>(message.back()) & 0xc0u) != 0xc0u);
}

TEST(threads_share_an_engine) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model, 2);
    std::atomic<int> right = 0;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i) {
        threads.emplace_back([&, i] {
            const auto values = ids(3 + i, i);
            const auto expected = model.greedy(values, 6).tokens;
            for (int round = 0; round < 10; ++round) right += generated(opened.engine, values) == expected ? 1 : 0;
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(right.load(), 40);
}

TEST(engines_open_and_close_while_others_run) {
    const Model model(Model::Kind::kSwcm), other(Model::Kind::kFusion);
    const Opened opened(model, 2);
    const auto values = ids(5, 1);
    const auto expected = model.greedy(values, 6).tokens, from_other = other.greedy(values, 6).tokens;
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> runners;
    for (int i = 0; i < 3; ++i) {
        runners.emplace_back([&] {
            while (!stop.load()) wrong += generated(opened.engine, values) == expected ? 0 : 1;
        });
    }
    for (int round = 0; round < 20; ++round) {
        const Opened briefly(other, 2);
        REQUIRE(briefly.status == LRENGINE_OK);
        CHECK(generated(briefly.engine, values) == from_other);
    }
    stop = true;
    for (std::thread& runner : runners) runner.join();
    CHECK_EQUAL(wrong.load(), 0);
}

// Cancelled twice before it, and once more when all is over.
TEST(a_session_cancelled_before_its_first_step_has_no_tokens) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    const lrengine_generate_options options = most(6);
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    lrengine_session_cancel(session);
    lrengine_session_cancel(session);
    CHECK_EQUAL(finish(session), 1);
    CHECK(answer_of(session).empty());
    lrengine_session_cancel(session);
    lrengine_session_free(session);
    CHECK(generated(opened.engine, values) == model.greedy(values, 6).tokens);
}

// A step that runs is completed, and no other comes.
TEST(a_session_cancelled_inside_a_step_ends_after_it) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    lrengine_generate_options options = most(6);
    lrengine_session* session = nullptr;
    options.on_token = [](void* user, const lrengine_token*) -> std::int32_t {
        lrengine_session_cancel(*static_cast<lrengine_session**>(user));
        return 0;
    };
    options.on_token_user = &session;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    CHECK(finish(session) <= 2);
    const auto whole = model.greedy(values, 6).tokens;
    CHECK(answer_of(session) == std::vector<std::int32_t>(whole.begin(), whole.begin() + 1));
    lrengine_session_free(session);
    CHECK(generated(opened.engine, values) == whole);
}

// The header says callbacks return; one in C++ that throws all the same ends its own request and nothing else.
TEST(an_exception_of_a_callback_becomes_a_status) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model, 2);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    lrengine_generate_options options = most(6);
    options.on_token = [](void*, const lrengine_token*) -> std::int32_t {
        throw std::runtime_error("of the callback");
    };
    lrengine_generations* answers = nullptr;
    CHECK_FAILS(lrengine_generate(opened.engine, &input, 1, &options, nullptr, &answers), LRENGINE_INTERNAL,
                "of the callback");
    CHECK(answers == nullptr);
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    std::int32_t done = 0;
    CHECK_FAILS(lrengine_session_step(session, &done), LRENGINE_INTERNAL, "of the callback");
    lrengine_session_free(session);
    CHECK(generated(opened.engine, values) == model.greedy(values, 6).tokens);
}

// A server that loads, then forks its workers, while other threads compute: children compute alone, and may close what
// they inherited or open anew.
TEST(a_forked_child_may_use_the_engine) {
    const Model model(Model::Kind::kSwcm);
    Opened opened(model, 3);
    const auto values = ids(7, 1);
    const auto expected = model.greedy(values, 6).tokens;
    const lrengine_input input = source(values);
    const lrengine_generate_options options = most(6);
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, &options, &session) == LRENGINE_OK);
    std::int32_t done = 0;
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    std::atomic<bool> stop{false};
    std::thread busy;
    if (kForksAmongThreads) {  // not even one that ends: it may hold the sanitizer's locks while it does
        busy = std::thread([&] {
            while (!stop.load()) generated(opened.engine, values);
        });
    }
    int failures = 0;
    for (int i = 0; i < 10; ++i) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::alarm(60);  // a child that hangs is a failure
            bool right = generated(opened.engine, values) == expected;
            finish(session);
            right = right && answer_of(session) == expected;
            lrengine_session_free(session);
            lrengine_close(opened.engine);
            {
                const Opened own(model, 2);
                right = right && generated(own.engine, values) == expected;
            }
            ::_exit(right ? 0 : 1);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        failures += WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
    }
    stop = true;
    if (busy.joinable()) busy.join();
    CHECK_EQUAL(failures, 0);
    finish(session);
    CHECK(answer_of(session) == expected);
    lrengine_session_free(session);
}

}  // namespace
