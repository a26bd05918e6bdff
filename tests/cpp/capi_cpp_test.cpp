// lrengine.hpp, compiled as C++17: RAII, exceptions, and the form without them.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.hpp"

namespace {

using capi_models::ids;
using capi_models::Model;

lrengine::EngineOptions on_cpu() {
    lrengine::EngineOptions options;
    options.device = "cpu";
    options.threads = 1;
    return options;
}

lrengine::GenerateOptions most(std::int64_t tokens) {
    lrengine::GenerateOptions options;
    options.max_new_tokens = tokens;
    return options;
}

template <typename Body>
lrengine::Status status_of(Body body) {
    try {
        body();
    } catch (const lrengine::Error& error) {
        CHECK(!std::string(error.what()).empty());
        return error.status();
    }
    return lrengine::Status::kOk;
}

TEST(options_have_the_same_defaults_as_in_c) {
    const lrengine_generate_options c = LRENGINE_GENERATE_OPTIONS_INIT;
    lrengine::detail::StopTexts stop;
    lrengine::detail::Hook hook(nullptr);
    const lrengine_generate_options cpp = lrengine::detail::raw(lrengine::GenerateOptions{}, stop, hook);
    CHECK(c.struct_size == cpp.struct_size && c.max_new_tokens == cpp.max_new_tokens &&
          c.min_new_tokens == cpp.min_new_tokens && c.num_beams == cpp.num_beams &&
          c.num_return_sequences == cpp.num_return_sequences && c.length_penalty == cpp.length_penalty &&
          c.early_stopping == cpp.early_stopping && c.do_sample == cpp.do_sample &&
          c.repetition_penalty == cpp.repetition_penalty && c.no_repeat_ngram_size == cpp.no_repeat_ngram_size &&
          c.temperature == cpp.temperature && c.top_k == cpp.top_k && c.top_p == cpp.top_p &&
          c.has_seed == cpp.has_seed && cpp.on_token == nullptr);
}

TEST(objects_move_and_do_not_copy) {
    static_assert(std::is_move_constructible_v<lrengine::Engine> && !std::is_copy_constructible_v<lrengine::Engine>);
    static_assert(std::is_move_assignable_v<lrengine::Session> && !std::is_copy_constructible_v<lrengine::Session>);
    const Model model(Model::Kind::kSwcm);
    lrengine::Engine engine(model.path(), on_cpu());
    lrengine::Engine other = std::move(engine);
    CHECK(!engine && other);
    engine = std::move(other);
    CHECK(engine.info().model_type == "swcm");
}

TEST(generate_and_its_errors) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto values = ids(7, 1);
    const auto answers = engine.generate({values, ids(3, 2)}, most(6));
    CHECK(answers.size() == 2 && answers[0].tokens == model.greedy(values, 6).tokens);
    CHECK(answers[0].log_probs == model.greedy(values, 6).log_probs);
    lrengine::GenerateOptions beams = most(6);
    beams.num_beams = beams.num_return_sequences = 3;
    CHECK_EQUAL(engine.generate_all({values}, beams)[0].size(), 3u);
    CHECK(status_of([&] { engine.generate({std::vector<std::int32_t>{99}}); }) == lrengine::Status::kInvalidArgument);
    CHECK(status_of([&] { engine.generate({"text", "another"}); }) == lrengine::Status::kUnsupported);
    CHECK(status_of([] { lrengine::Engine("/nowhere"); }) == lrengine::Status::kModelFile);
    CHECK(engine.memory().peak_request_bytes > 0);
}

TEST(results_instead_of_exceptions) {
    const Model model(Model::Kind::kSwcm);
    const auto none = lrengine::Engine::try_open("/nowhere");
    CHECK(!none && none.status() == lrengine::Status::kModelFile);
    CHECK(none.message().find("/nowhere") != std::string::npos && !none.has_value());
    auto engine = lrengine::Engine::try_open(model.path(), on_cpu());
    REQUIRE(engine.ok());
    CHECK(engine->try_check_weights().ok());
    CHECK(lrengine::Engine().try_check_weights().status() == lrengine::Status::kInvalidArgument);
    const std::vector<lrengine::Input> inputs = {ids(7, 1)};
    const auto answers = engine->try_generate(inputs, most(6));
    REQUIRE(answers.ok());
    CHECK((*answers)[0].tokens == model.greedy(ids(7, 1), 6).tokens);
    const auto from_braces = engine->try_generate({ids(7, 1), ids(7, 1)}, most(6));
    CHECK(from_braces.ok() && (*from_braces)[1].tokens == (*answers)[0].tokens);
    CHECK(engine->try_encode({ids(7, 1)}).ok() && engine->try_score({{ids(7, 1), {}, ids(3, 2)}}).ok());
    CHECK(engine->try_generate({}, most(6)).ok());
    lrengine::GenerateOptions wrong;
    wrong.temperature = -1.0;
    wrong.do_sample = true;
    CHECK(engine->try_generate(inputs, wrong).status() == lrengine::Status::kInvalidArgument);
    CHECK(engine->try_encode_text("text").status() == lrengine::Status::kUnsupported);
}

TEST(a_stream_hears_every_token_and_may_end) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto values = ids(7, 1);
    std::vector<std::int32_t> heard;
    const auto whole = engine.stream(
        values,
        [&](const lrengine::Token& token) {
            heard.push_back(token.token);
            return true;
        },
        most(6));
    CHECK(heard == model.greedy(values, 6).tokens && whole.tokens == heard);
    const auto cut = engine.stream(values, [](const lrengine::Token&) { return false; }, most(6));
    CHECK(cut.tokens.size() == 1 && cut.finish_reason == lrengine::FinishReason::kCancelled);
}

TEST(exceptions_of_callbacks_reach_the_caller) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto thrower = [](const lrengine::Token&) -> bool { throw std::out_of_range("enough"); };
    bool caught = false;
    try {
        engine.stream(ids(7, 1), thrower, most(6));
    } catch (const std::out_of_range& error) {
        caught = std::string(error.what()) == "enough";
    }
    CHECK(caught);
    lrengine::EngineOptions talkative = on_cpu();
    talkative.device = "auto";
    talkative.log = [](std::string_view) { throw std::out_of_range("log"); };
    caught = false;
    try {
        const lrengine::Engine other(model.path(), talkative);
    } catch (const std::out_of_range&) {
        caught = true;
    }
    CHECK(caught);
    lrengine::GenerateOptions options = most(6);
    options.on_token = thrower;
    lrengine::Session session = engine.start({ids(7, 1)}, options);
    caught = false;
    try {
        session.step();
    } catch (const std::out_of_range&) {
        caught = true;
    }
    CHECK(caught);
    CHECK(session.step());
    CHECK(engine.generate({ids(7, 1)}, most(6)).size() == 1);
}

TEST(sessions_outlive_their_engine) {
    const Model model(Model::Kind::kSwcm);
    lrengine::Session session;
    {
        const lrengine::Engine engine(model.path(), on_cpu());
        session = engine.start({ids(7, 1)}, most(6));
    }
    while (!session.step()) {
    }
    CHECK(session.results()[0][0].tokens == model.greedy(ids(7, 1), 6).tokens);
}

TEST(limits_end_requests_with_what_there_is) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    lrengine::Cancellation cancellation;
    lrengine::Limits limits;
    limits.cancellation = &cancellation;
    const std::vector<lrengine::Input> inputs = {ids(7, 1)};
    lrengine::GenerateOptions options = most(6);
    options.on_token = [&](const lrengine::Token&) {
        cancellation.request();
        return true;
    };
    const auto cut = engine.try_generate(inputs, options, limits);
    CHECK(cut.status() == lrengine::Status::kCancelled && cut.has_value() && (*cut)[0].tokens.size() == 1);
    CHECK(status_of([&] { engine.encode({ids(7, 1)}, lrengine::EncodeOutput::kLast, limits); }) ==
          lrengine::Status::kCancelled);
    limits = {};
    limits.deadline = std::chrono::microseconds(1);
    CHECK(engine.try_generate(inputs, most(6), limits).status() == lrengine::Status::kDeadline);
}

TEST(a_moved_cancellation_is_the_same_flag) {
    static_assert(std::is_nothrow_move_constructible_v<lrengine::Cancellation> &&
                  std::is_nothrow_move_assignable_v<lrengine::Cancellation> &&
                  !std::is_copy_constructible_v<lrengine::Cancellation>);
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    const std::vector<lrengine::Input> inputs = {ids(7, 1)};
    lrengine::Cancellation first;
    lrengine::Limits limits;
    limits.cancellation = &first;
    lrengine::GenerateOptions options = most(6);
    std::vector<lrengine::Cancellation> kept;
    options.on_token = [&](const lrengine::Token&) {
        if (kept.empty()) kept.push_back(std::move(first));
        kept.front().request();  // the call was given the flag, not the object
        return true;
    };
    const auto cut = engine.try_generate(inputs, options, limits);
    CHECK(cut.status() == lrengine::Status::kCancelled && (*cut)[0].tokens.size() == 1);
    CHECK(!first && kept.front());
    first.request();                                           // of nothing
    CHECK(engine.try_generate(inputs, most(6), limits).ok());  // limits point at what was moved from
    first = std::move(kept.front());
    CHECK(first && engine.try_generate(inputs, most(6), limits).status() == lrengine::Status::kCancelled);
    first = lrengine::Cancellation();
    CHECK(engine.try_generate(inputs, most(6), limits).ok());
    auto& same = first;
    first = std::move(same);
    CHECK(static_cast<bool>(first));
}

TEST(stop_strings_may_hold_zeros) {
    Model model(Model::Kind::kSwcm);
    model.add_tokenizer();
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto text_with = [&](const std::vector<std::string>& stop) {
        lrengine::GenerateOptions options = most(12);
        options.stop = stop;
        return engine.generate({ids(4, 2)}, options)[0].text;
    };
    const std::string text = text_with({});
    REQUIRE(text.size() > 2);
    const std::string seen = text.substr(1, 1);
    CHECK(text_with({seen}) != text);
    CHECK_EQUAL(text_with({seen + '\0'}), text);  // cut at its zero it would end the row
}

TEST(targets_given_as_text_are_scored_with_their_end) {
    Model model(Model::Kind::kSwcm);
    model.add_tokenizer();
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto source = ids(4, 2);
    std::vector<std::int32_t> closed = engine.encode_text("ab", lrengine::Side::kTarget, false);
    const auto bare = engine.score({lrengine::Input(source, {}, closed)});
    closed.push_back(engine.info().end_tokens.at(0));
    const auto text = engine.score({lrengine::Input(source, {}, "ab")});
    CHECK(text[0].token_log_probs == engine.score({lrengine::Input(source, {}, closed)})[0].token_log_probs);
    CHECK_EQUAL(text[0].token_log_probs.size(), bare[0].token_log_probs.size() + 1);
}

TEST(prompts_go_through_the_template_wherever_it_has_a_place) {
    Model model(Model::Kind::kFusion);
    model.add_prompt_template("a{prompt}b{prompt}");
    const lrengine::Engine engine(model.path(), on_cpu());
    const auto source = ids(4, 2);
    const auto answer = [&](const lrengine::Piece& prompt) {
        return engine.generate({lrengine::Input(source, prompt)}, most(6))[0].log_probs;
    };
    const auto spelled = [&](const char* text) {
        return answer(lrengine::Piece(engine.encode_text(text, lrengine::Side::kTarget, false)));
    };
    CHECK(answer("ab") == spelled("aabbab"));
    CHECK(answer("ab") != spelled("aab"));
    CHECK(answer({}) == spelled("ab"));  // no prompt: the template around nothing
    CHECK(answer("") == spelled("ab"));
}

TEST(without_a_seed_every_request_draws_anew) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    lrengine::GenerateOptions options = most(12);
    options.do_sample = true;
    options.temperature = 3.0;
    const auto first = engine.generate({ids(4, 2)}, options)[0].tokens;
    bool differs = false;
    for (int i = 0; i < 5; ++i) differs = differs || engine.generate({ids(4, 2)}, options)[0].tokens != first;
    CHECK(differs);
}

TEST(streams_without_exceptions_end_as_those_with_them) {
    const Model model(Model::Kind::kSwcm);
    const lrengine::Engine engine(model.path(), on_cpu());
    const lrengine::Input input = ids(7, 1);
    const auto all = [](const lrengine::Token&) { return true; };
    const auto none = [](const lrengine::Token&) { return false; };
    CHECK((*engine.try_stream(input, all, most(6))).tokens == model.greedy(ids(7, 1), 6).tokens);
    const auto cut = engine.try_stream(input, none, most(6));
    CHECK(cut.status() == lrengine::Status::kCallback && (*cut).tokens.size() == 1);
    const auto bad = engine.try_stream(std::vector<std::int32_t>{99}, all, most(6));
    CHECK(bad.status() == lrengine::Status::kInvalidArgument && !bad.has_value());
}

TEST(the_loaded_library_says_which_it_is) {
    CHECK(lrengine::version() == "0.1.0" && lrengine::is_compatible());
    const std::string directory("model\0more", 10);
    CHECK(lrengine::Engine::try_open(directory).status() == lrengine::Status::kModelFile);
}

TEST(numbers_of_other_calls) {
    const Model model(Model::Kind::kSwcm), head(Model::Kind::kClassifier);
    const lrengine::Engine engine(model.path(), on_cpu()), classifier(head.path(), on_cpu());
    const auto values = ids(7, 1), target = ids(4, 9);
    const auto scores = engine.score({lrengine::Input(values, {}, target)});
    CHECK(scores[0].token_log_probs == model.score(values, target));
    const auto states = engine.encode({values}, lrengine::EncodeOutput::kLast);
    CHECK(states[0].data == model.encode(values) && states[0].shape == (std::vector<std::int64_t>{7, 24}));
    const auto labelled = classifier.classify({values});
    const std::vector<float> expected = head.classify(values);
    CHECK(labelled[0].label == (expected[1] > expected[0] ? "yes" : "no"));
    CHECK(std::abs(labelled[0].scores[1].second - std::exp(expected[1])) < 1e-6f);
    CHECK(labelled[0].scores[1].first == "yes");
    CHECK(labelled[0].probability == std::max(labelled[0].scores[0].second, labelled[0].scores[1].second));
}

}  // namespace
