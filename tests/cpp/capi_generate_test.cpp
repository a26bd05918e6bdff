// The C interface: answers, tokens as they come, requests that end early, requests that are refused.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "capi_testing.h"

using namespace capi_testing;

namespace {

TEST(generate_answers_as_the_engine_does) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto first = ids(7, 1), second = ids(3, 2), prefix = ids(2, 3);
    std::vector<lrengine_input> inputs = {source(first), source(second)};
    inputs[1].target = piece(prefix);
    const lrengine_generate_options options = most(6);
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_generate(opened.engine, inputs.data(), 2, &options, nullptr, &answers) == LRENGINE_OK);
    CHECK_EQUAL(lrengine_generations_inputs(answers), 2u);
    CHECK_EQUAL(lrengine_generations_sequences(answers, 0), 1u);
    CHECK_EQUAL(lrengine_generations_sequences(answers, 2), 0u);
    const auto expected = model.greedy(first, 6), prefixed = model.greedy(second, 6, prefix);
    const lrengine_generation one = get(answers, 0, 0), two = get(answers, 1, 0);
    CHECK(tokens_of(one) == expected.tokens && tokens_of(two) == prefixed.tokens);
    CHECK((std::vector<float>(one.log_probs, one.log_probs + one.log_prob_count)) == expected.log_probs);
    const double sum = std::accumulate(expected.log_probs.begin(), expected.log_probs.end(), 0.0);
    CHECK(std::abs(one.score - sum) < 1e-9);
    CHECK(one.text == nullptr);
    lrengine_generation none = LRENGINE_GENERATION_INIT;
    CHECK_FAILS(lrengine_generations_get(answers, 2, 0, &none), LRENGINE_INVALID_ARGUMENT, "input: found 2");
    CHECK_FAILS(lrengine_generations_get(answers, 0, 1, &none), LRENGINE_INVALID_ARGUMENT, "sequence: found 1");
    lrengine_generations_free(answers);
}

TEST(beams_and_samples_give_several_answers) {
    const Model model(Model::Kind::kFusion);
    const Opened opened(model);
    const auto values = ids(5, 4);
    const lrengine_input input = source(values);
    lrengine_generate_options options = most(5);
    options.num_return_sequences = 3;
    options.num_beams = 4;
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_generate(opened.engine, &input, 1, &options, nullptr, &answers) == LRENGINE_OK);
    CHECK_EQUAL(lrengine_generations_sequences(answers, 0), 3u);
    lrengine_generations_free(answers);

    options.num_beams = 1;
    options.do_sample = 1;
    options.has_seed = 1;
    options.seed = 5;
    std::vector<std::vector<std::int32_t>> runs;
    for (int run = 0; run < 2; ++run) {
        REQUIRE(lrengine_generate(opened.engine, &input, 1, &options, nullptr, &answers) == LRENGINE_OK);
        for (std::size_t i = 0; i < 3; ++i) runs.push_back(tokens_of(get(answers, 0, i)));
        lrengine_generations_free(answers);
    }
    CHECK(std::equal(runs.begin(), runs.begin() + 3, runs.begin() + 3));
    CHECK(runs[0] != runs[1] || runs[1] != runs[2]);
}

struct Heard {
    std::vector<std::vector<std::int32_t>> rows = std::vector<std::vector<std::int32_t>>(2);
    std::size_t limit = 1000, calls = 0;

    static std::int32_t hear(void* user, const lrengine_token* token) {
        Heard& heard = *static_cast<Heard*>(user);
        heard.rows[token->input].push_back(token->token);
        return ++heard.calls >= heard.limit ? 7 : 0;
    }
};

TEST(tokens_are_told_as_they_come) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto first = ids(7, 1), second = ids(3, 2);
    const std::vector<lrengine_input> inputs = {source(first), source(second)};
    Heard heard;
    lrengine_generate_options options = most(6);
    options.on_token = &Heard::hear;
    options.on_token_user = &heard;
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_generate(opened.engine, inputs.data(), 2, &options, nullptr, &answers) == LRENGINE_OK);
    CHECK(heard.rows[0] == model.greedy(first, 6).tokens && heard.rows[1] == model.greedy(second, 6).tokens);
    lrengine_generations_free(answers);

    // A callback that has enough: the status, and what there was.
    heard = {};
    heard.limit = 3;
    CHECK_FAILS(lrengine_generate(opened.engine, inputs.data(), 2, &options, nullptr, &answers), LRENGINE_CALLBACK,
                "on_token");
    CHECK_EQUAL(heard.calls, 3u);
    const lrengine_generation cut = get(answers, 0, 0);
    CHECK_EQUAL(cut.finish_reason, LRENGINE_FINISH_CANCELLED);
    CHECK_EQUAL(cut.token_count, 2u);
    lrengine_generations_free(answers);

    options.num_beams = 2;
    CHECK_FAILS(lrengine_generate(opened.engine, inputs.data(), 2, &options, nullptr, &answers),
                LRENGINE_INVALID_ARGUMENT, "on_token");
}

struct HeardText {
    std::string text;
    std::vector<std::int32_t> tokens;
    std::size_t waited = 0;  // tokens that had no text of their own
    lrengine_cancellation* cancellation = nullptr;
    std::size_t limit = 1000;

    static std::int32_t hear(void* user, const lrengine_token* token) {
        HeardText& heard = *static_cast<HeardText*>(user);
        heard.text.append(token->text, token->text_bytes);
        heard.tokens.push_back(token->token);
        heard.waited += token->text_bytes == 0 ? 1 : 0;
        if (heard.tokens.size() >= heard.limit) lrengine_cancellation_request(heard.cancellation);
        return 0;
    }
};

// Whatever ends a row: an end token, a stop string, the length, a cancellation.
TEST(texts_of_tokens_add_up_to_the_answers) {
    Model model(Model::Kind::kSwcm);
    model.add_tokenizer();
    const Opened opened(model);
    const char* const stop[] = {"<end>", "aab", "\xe4\xbb\x8a"};
    std::size_t waited = 0, stopped = 0, cancelled = 0;
    for (unsigned seed = 0; seed < 150; ++seed) {
        const auto values = ids(4, seed), prefix = ids(seed % 3, seed + 1000);
        lrengine_input input = source(values);
        input.target = piece(prefix);
        HeardText heard;
        REQUIRE(lrengine_cancellation_create(&heard.cancellation) == LRENGINE_OK);
        heard.limit = seed % 5 == 0 ? 4 : 1000;
        lrengine_limits limits = LRENGINE_LIMITS_INIT;
        limits.cancellation = heard.cancellation;
        lrengine_generate_options options = most(20);
        options.do_sample = options.has_seed = 1;
        options.seed = seed;
        options.temperature = 1.5;
        options.stop = stop;
        options.stop_count = seed % 2 == 0 ? 3 : 0;
        options.on_token = &HeardText::hear;
        options.on_token_user = &heard;
        lrengine_generations* answers = nullptr;
        const lrengine_status status = lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers);
        CHECK(status == LRENGINE_OK || status == LRENGINE_CANCELLED);
        const lrengine_generation answer = get(answers, 0, 0);
        CHECK_EQUAL(heard.text, std::string(answer.text, answer.text_bytes));
        CHECK(heard.tokens == tokens_of(answer));
        waited += heard.waited;
        stopped += answer.finish_reason == LRENGINE_FINISH_STOP ? 1 : 0;
        cancelled += status == LRENGINE_CANCELLED ? 1 : 0;
        lrengine_generations_free(answers);
        lrengine_cancellation_free(heard.cancellation);
    }
    CHECK(waited > 0 && stopped > 0 && cancelled > 0);
}

TEST(requests_end_at_cancellations_and_deadlines) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    const lrengine_generate_options options = most(6);
    lrengine_cancellation* cancellation = nullptr;
    REQUIRE(lrengine_cancellation_create(&cancellation) == LRENGINE_OK);
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    limits.cancellation = cancellation;
    lrengine_generations* answers = nullptr;
    CHECK_EQUAL(lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers), LRENGINE_OK);
    lrengine_generations_free(answers);
    lrengine_cancellation_request(cancellation);
    lrengine_cancellation_request(cancellation);
    answers = nullptr;
    CHECK_FAILS(lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers), LRENGINE_CANCELLED,
                "cancelled");
    CHECK_EQUAL(get(answers, 0, 0).token_count, 0u);
    lrengine_generations_free(answers);
    lrengine_arrays* arrays = nullptr;
    CHECK_FAILS(lrengine_encode(opened.engine, &input, 1, LRENGINE_ENCODE_LAST, &limits, &arrays), LRENGINE_CANCELLED,
                "cancelled");
    CHECK(arrays == nullptr);
    lrengine_cancellation_free(cancellation);

    limits = LRENGINE_LIMITS_INIT;
    limits.deadline_microseconds = 1;
    CHECK_FAILS(lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers), LRENGINE_DEADLINE,
                "deadline");
    lrengine_generations_free(answers);
    limits.deadline_microseconds = INT64_MAX;
    CHECK_EQUAL(lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers), LRENGINE_OK);
    lrengine_generations_free(answers);
    limits.deadline_microseconds = -1;
    CHECK_FAILS(lrengine_generate(opened.engine, &input, 1, &options, &limits, &answers), LRENGINE_INVALID_ARGUMENT,
                "deadline_microseconds: found -1");
}

TEST(bad_requests_are_refused_and_leave_the_engine_usable) {
    const Model model(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(model), labelled(classifier);
    const auto values = ids(7, 1);
    const std::vector<std::int32_t> wild = {3, 99};
    const lrengine_input input = source(values), bad = source(wild);
    lrengine_generations* answers = nullptr;
    const auto generate = [&](const lrengine_input* inputs, const lrengine_generate_options* options) {
        return lrengine_generate(opened.engine, inputs, 1, options, nullptr, &answers);
    };
    CHECK_FAILS(generate(nullptr, nullptr), LRENGINE_INVALID_ARGUMENT, "inputs: found NULL");
    CHECK_FAILS(generate(&bad, nullptr), LRENGINE_INVALID_ARGUMENT, "99");
    CHECK_FAILS(lrengine_generate(nullptr, &input, 1, nullptr, nullptr, &answers), LRENGINE_INVALID_ARGUMENT,
                "engine: found NULL");
    CHECK_FAILS(lrengine_generate(opened.engine, &input, 1, nullptr, nullptr, nullptr), LRENGINE_INVALID_ARGUMENT,
                "generations: found NULL");
    CHECK_FAILS(lrengine_generate(labelled.engine, &input, 1, nullptr, nullptr, &answers), LRENGINE_INVALID_ARGUMENT,
                "do not generate");
    lrengine_generate_options options = most(6);
    options.top_p = NAN;
    CHECK_FAILS(generate(&input, &options), LRENGINE_INVALID_ARGUMENT, "top_p");
    options = most(6);
    options.early_stopping = 4;
    CHECK_FAILS(generate(&input, &options), LRENGINE_INVALID_ARGUMENT, "early_stopping: found 4");
    options = most(6);
    const char* const stop[] = {""};
    options.stop = stop;
    options.stop_count = 1;
    CHECK_FAILS(generate(&input, &options), LRENGINE_INVALID_ARGUMENT, "stop[0]");
    lrengine_input texts = LRENGINE_INPUT_INIT;
    texts.source.text = "text";
    CHECK_FAILS(generate(&texts, nullptr), LRENGINE_UNSUPPORTED, "no tokenizer.json");
    texts.source.ids = values.data();
    CHECK_FAILS(generate(&texts, nullptr), LRENGINE_INVALID_ARGUMENT, "ids and text");
    lrengine_input prompted = input;
    prompted.prompt = piece(values);
    CHECK_FAILS(generate(&prompted, nullptr), LRENGINE_INVALID_ARGUMENT, "inputs[0].prompt");
    lrengine_input lost = input;
    lost.source.ids = nullptr;
    CHECK_FAILS(generate(&lost, nullptr), LRENGINE_INVALID_ARGUMENT, "7 ids at NULL");
    CHECK(answers == nullptr);
    CHECK_EQUAL(generate(&input, nullptr), LRENGINE_OK);
    lrengine_generations_free(answers);
    CHECK_EQUAL(lrengine_generate(opened.engine, nullptr, 0, nullptr, nullptr, &answers), LRENGINE_OK);
    CHECK_EQUAL(lrengine_generations_inputs(answers), 0u);
    lrengine_generations_free(answers);
}

}  // namespace
