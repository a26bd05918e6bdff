// The C interface: what a C program sees of the engine.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.h"

namespace {

using capi_models::ids;
using capi_models::Model;

struct Opened {
    explicit Opened(const Model& model, std::int32_t threads = 1) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = threads;
        status = lrengine_open(model.path().c_str(), &options, &engine);
    }
    ~Opened() { lrengine_close(engine); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

    lrengine_engine* engine = nullptr;
    lrengine_status status = LRENGINE_INTERNAL;
};

lrengine_piece piece(const std::vector<std::int32_t>& values) {
    lrengine_piece made = LRENGINE_PIECE_INIT;
    made.ids = values.data();
    made.id_count = values.size();
    return made;
}

lrengine_input source(const std::vector<std::int32_t>& values) {
    lrengine_input input = LRENGINE_INPUT_INIT;
    input.source = piece(values);
    return input;
}

lrengine_generate_options most(std::int64_t tokens) {
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = tokens;
    return options;
}

bool last_error_has(const char* text) { return std::string(lrengine_last_error()).find(text) != std::string::npos; }

#define CHECK_FAILS(call, expected, fragment)                                                      \
    do {                                                                                           \
        CHECK_EQUAL(lrengine_status{call}, lrengine_status{expected});                             \
        if (!last_error_has(fragment)) harness::report(__FILE__, __LINE__, lrengine_last_error()); \
    } while (false)

std::vector<std::int32_t> tokens_of(const lrengine_generation& generation) {
    return {generation.tokens, generation.tokens + generation.token_count};
}

lrengine_generation get(const lrengine_generations* generations, std::size_t input, std::size_t sequence) {
    lrengine_generation generation = LRENGINE_GENERATION_INIT;
    CHECK_EQUAL(lrengine_generations_get(generations, input, sequence, &generation), LRENGINE_OK);
    return generation;
}

TEST(versions_agree) {
    CHECK_EQUAL(lrengine_abi_version(), LRENGINE_ABI_VERSION);
    CHECK_EQUAL(std::string(lrengine_version()), std::string("0.1.0"));
    for (lrengine_status status = LRENGINE_OK; status <= LRENGINE_INTERNAL; ++status) {
        CHECK(std::strcmp(lrengine_status_name(status), "unknown status") != 0);
    }
    CHECK_EQUAL(std::string(lrengine_status_name(1000)), std::string("unknown status"));
}

TEST(what_is_not_said_is_as_in_the_engine) {
    const lrengine_generate_options unsaid = LRENGINE_GENERATE_OPTIONS_INIT;
    CHECK(capi_models::are_the_engines_defaults(unsaid));
    lrengine_generate_options other = LRENGINE_GENERATE_OPTIONS_INIT;
    other.top_p = 0.5;
    CHECK(!capi_models::are_the_engines_defaults(other));
}

TEST(info_describes_the_model) {
    const Model swcm(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(swcm), labelled(classifier);
    REQUIRE(opened.status == LRENGINE_OK && labelled.status == LRENGINE_OK);
    lrengine_engine_info info = LRENGINE_ENGINE_INFO_INIT;
    CHECK_EQUAL(lrengine_get_info(opened.engine, &info), LRENGINE_OK);
    CHECK_EQUAL(std::string(info.device), std::string("cpu"));
    CHECK_EQUAL(std::string(info.dtype), std::string("float32"));
    CHECK_EQUAL(std::string(info.model_type), std::string("swcm"));
    CHECK_EQUAL(info.source_vocabulary, 53);
    CHECK_EQUAL(info.target_vocabulary, 53);
    CHECK_EQUAL(info.max_source_length, 35);
    CHECK_EQUAL(info.encoder_layers, 3);
    CHECK_EQUAL(info.encoder_width, 24);
    CHECK_EQUAL(info.labels, 0u);
    CHECK(info.end_tokens == 1 && info.end_token_ids[0] == 2);
    CHECK_EQUAL(info.reads_source_text, 0);
    CHECK(lrengine_label(opened.engine, 0) == nullptr);

    CHECK_EQUAL(lrengine_get_info(labelled.engine, &info), LRENGINE_OK);
    CHECK_EQUAL(info.labels, 2u);
    CHECK_EQUAL(info.target_vocabulary, 0);
    CHECK_EQUAL(std::string(lrengine_label(labelled.engine, 1)), std::string("yes"));
    CHECK(lrengine_label(labelled.engine, 2) == nullptr);
}

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

TEST(score_classify_and_encode_give_arrays) {
    const Model model(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(model), labelled(classifier);
    const auto first = ids(7, 1), target = ids(4, 9), other = ids(3, 5);
    std::vector<lrengine_input> inputs = {source(first), source(other)};
    inputs[0].target = inputs[1].target = piece(target);
    lrengine_arrays* arrays = nullptr;
    lrengine_array array = LRENGINE_ARRAY_INIT;
    const auto values = [&array] { return std::vector<float>(array.data, array.data + array.size); };

    // With limits and without: the cuts change nothing.
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    limits.deadline_microseconds = INT64_C(60000000);
    const lrengine_limits* const both[] = {nullptr, &limits};
    for (const lrengine_limits* ends : both) {
        REQUIRE(lrengine_score(opened.engine, inputs.data(), 2, ends, &arrays) == LRENGINE_OK);
        CHECK_EQUAL(lrengine_arrays_count(arrays), 2u);
        REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
        CHECK(values() == model.score(first, target));
        CHECK_FAILS(lrengine_arrays_get(arrays, 2, &array), LRENGINE_INVALID_ARGUMENT, "index: found 2");
        lrengine_arrays_free(arrays);

        REQUIRE(lrengine_encode(opened.engine, inputs.data(), 2, LRENGINE_ENCODE_LAST, ends, &arrays) == LRENGINE_OK);
        REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
        CHECK(array.dimensions == 2 && array.shape[0] == 7 && array.shape[1] == 24);
        CHECK(values() == model.encode(first));
        lrengine_arrays_free(arrays);

        REQUIRE(lrengine_classify(labelled.engine, inputs.data(), 2, nullptr, 0, ends, &arrays) == LRENGINE_OK);
        REQUIRE(lrengine_arrays_get(arrays, 1, &array) == LRENGINE_OK);
        const std::vector<float> expected = classifier.classify(other);
        CHECK(array.size == 2 && std::abs(array.data[0] - std::exp(expected[0])) < 1e-6f);
        lrengine_arrays_free(arrays);
    }
    REQUIRE(lrengine_encode(opened.engine, inputs.data(), 1, LRENGINE_ENCODE_ALL, nullptr, &arrays) == LRENGINE_OK);
    REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
    CHECK(array.dimensions == 3 && array.shape[0] == 3 && array.shape[1] == 7 && array.shape[2] == 24);
    lrengine_arrays_free(arrays);
    CHECK_FAILS(lrengine_encode(opened.engine, inputs.data(), 1, 9, nullptr, &arrays), LRENGINE_INVALID_ARGUMENT,
                "output: found 9");
}

TEST(labels_of_a_generating_model_share_the_probability) {
    const Model model(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(model), labelled(classifier);
    const auto values = ids(7, 1), yes = ids(2, 8), no = ids(3, 9);
    const lrengine_input input = source(values);
    const std::vector<lrengine_piece> labels = {piece(yes), piece(no), piece(yes)};
    lrengine_arrays* arrays = nullptr;
    REQUIRE(lrengine_classify(opened.engine, &input, 1, labels.data(), 2, nullptr, &arrays) == LRENGINE_OK);
    lrengine_array array = LRENGINE_ARRAY_INIT;
    REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
    const auto total = [](const std::vector<float>& row) { return std::accumulate(row.begin(), row.end(), 0.0); };
    const double odds = std::exp(total(model.score(values, yes)) - total(model.score(values, no)));
    CHECK(std::abs(array.data[0] / array.data[1] / odds - 1.0) < 1e-4);
    CHECK(std::abs(array.data[0] + array.data[1] - 1.0f) < 1e-6f);
    lrengine_arrays_free(arrays);
    CHECK_FAILS(lrengine_classify(opened.engine, &input, 1, labels.data(), 3, nullptr, &arrays),
                LRENGINE_INVALID_ARGUMENT, "labels[2]");
    CHECK_FAILS(lrengine_classify(opened.engine, &input, 1, nullptr, 0, nullptr, &arrays), LRENGINE_INVALID_ARGUMENT,
                "labels: found none");
    CHECK_FAILS(lrengine_classify(labelled.engine, &input, 1, labels.data(), 2, nullptr, &arrays),
                LRENGINE_INVALID_ARGUMENT, "has its own");
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

TEST(opening_fails_with_a_reason) {
    lrengine_engine* engine = nullptr;
    CHECK_FAILS(lrengine_open("/nowhere/at/all", nullptr, &engine), LRENGINE_MODEL_FILE, "/nowhere/at/all");
    CHECK_FAILS(lrengine_open(nullptr, nullptr, &engine), LRENGINE_INVALID_ARGUMENT, "directory");
    const Model model(Model::Kind::kSwcm);
    CHECK_FAILS(lrengine_open(model.path().c_str(), nullptr, nullptr), LRENGINE_INVALID_ARGUMENT, "engine");
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.device = "tpu";
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "tpu");
    options.device = "cpu";
    options.threads = -1;
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "threads");
    options.threads = 1;
    options.dtype = "int3";
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "int3");
    CHECK(engine == nullptr);
}

// A program built against an older header has less, one built against a newer one more.
TEST(structs_of_other_versions_are_understood) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    struct Later {
        lrengine_memory known;
        std::uint64_t added;
    } later = {LRENGINE_MEMORY_INIT, 5};
    later.known.struct_size = sizeof(Later);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &later.known), LRENGINE_OK);
    CHECK(later.known.weight_bytes > 0 && later.added == 0 && later.known.struct_size == sizeof(Later));
    lrengine_memory earlier = {offsetof(lrengine_memory, request_bytes), 0, 77, 78};
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &earlier), LRENGINE_OK);
    CHECK(earlier.weight_bytes == later.known.weight_bytes && earlier.request_bytes == 77);
    lrengine_memory halved = {sizeof(lrengine_memory) - 4, 0, 0, 0};
    CHECK_FAILS(lrengine_get_memory(opened.engine, &halved), LRENGINE_INVALID_ARGUMENT, "struct_size");
    lrengine_memory blank = {};
    CHECK_FAILS(lrengine_get_memory(opened.engine, &blank), LRENGINE_INVALID_ARGUMENT, "struct_size is 0");

    struct LaterOptions {
        lrengine_generate_options known;
        std::uint64_t added;
    } options = {most(3), 0};
    options.known.struct_size = sizeof(LaterOptions);
    struct LaterInput {
        lrengine_input known;
        std::uint64_t added;
    };
    const auto first = ids(7, 1), second = ids(4, 2);
    std::vector<LaterInput> inputs = {{source(first), 0}, {source(second), 0}};
    for (LaterInput& input : inputs) input.known.struct_size = sizeof(LaterInput);
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_generate(opened.engine, &inputs[0].known, 2, &options.known, nullptr, &answers) == LRENGINE_OK);
    CHECK(tokens_of(get(answers, 1, 0)) == model.greedy(second, 3).tokens);
    lrengine_generations_free(answers);
    options.added = 1;
    CHECK_FAILS(lrengine_generate(opened.engine, &inputs[0].known, 2, &options.known, nullptr, &answers),
                LRENGINE_INVALID_ARGUMENT, "does not have");
    inputs[1].known.struct_size = sizeof(lrengine_input);
    CHECK_FAILS(lrengine_generate(opened.engine, &inputs[0].known, 2, nullptr, nullptr, &answers),
                LRENGINE_INVALID_ARGUMENT, "inputs[1]");
}

TEST(memory_of_requests_is_counted_and_given_back) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    lrengine_memory memory = LRENGINE_MEMORY_INIT;
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK(memory.weight_bytes > 0);
    CHECK_EQUAL(memory.request_bytes, 0u);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, nullptr, &session) == LRENGINE_OK);
    std::int32_t done = 0;
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK(memory.request_bytes > 0);
    const std::uint64_t peak = memory.peak_request_bytes;
    CHECK(peak >= memory.request_bytes);
    lrengine_session_free(session);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK_EQUAL(memory.request_bytes, 0u);
    CHECK_EQUAL(memory.peak_request_bytes, peak);
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

TEST(free_and_close_accept_null) {
    lrengine_close(nullptr);
    lrengine_session_free(nullptr);
    lrengine_session_cancel(nullptr);
    lrengine_generations_free(nullptr);
    lrengine_arrays_free(nullptr);
    lrengine_cancellation_request(nullptr);
    lrengine_cancellation_free(nullptr);
    CHECK_EQUAL(lrengine_generations_inputs(nullptr), 0u);
    CHECK_EQUAL(lrengine_arrays_count(nullptr), 0u);
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
            const lrengine_input input = source(values);
            const lrengine_generate_options options = most(6);
            for (int round = 0; round < 10; ++round) {
                lrengine_generations* answers = nullptr;
                if (lrengine_generate(opened.engine, &input, 1, &options, nullptr, &answers) != LRENGINE_OK) continue;
                lrengine_generation answer = LRENGINE_GENERATION_INIT;
                lrengine_generations_get(answers, 0, 0, &answer);
                right += tokens_of(answer) == expected ? 1 : 0;
                lrengine_generations_free(answers);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(right.load(), 40);
}

}  // namespace
