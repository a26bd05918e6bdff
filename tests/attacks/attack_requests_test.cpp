// BAD_INPUTS 8 and 9 through the C interface: ids, texts and options that break engines. Each gets a status and a
// message that names the argument, what was found and what was expected, or a proper answer; and the engine answers the
// next request as before. (In Python: test_requests.py. What the checks themselves say: decode_options_test,
// model_request_test.)
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "capi_attacks.h"

using capi_attacks::Engine;
using capi_models::ids;
using capi_models::Model;
using Ids = std::vector<std::int32_t>;

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

lrengine_piece piece(const Ids& values) {
    lrengine_piece made = LRENGINE_PIECE_INIT;
    made.ids = values.data();
    made.id_count = values.size();
    return made;
}

lrengine_piece piece(const std::string& text) {
    lrengine_piece made = LRENGINE_PIECE_INIT;
    made.text = text.data();
    made.text_bytes = text.size();
    return made;
}

struct Answers {
    lrengine_status status = LRENGINE_INTERNAL;
    std::vector<Ids> rows;
    std::vector<lrengine_finish_reason> reasons;
};

// An engine, and requests of it. When it goes, the engine must answer as it did.
class Attacked {
public:
    explicit Attacked(const Engine& engine) : engine_(engine), before_(engine.answer()) {
        REQUIRE(engine.status() == LRENGINE_OK);
    }
    ~Attacked() { CHECK(engine_.answer() == before_); }
    Attacked(const Attacked&) = delete;
    Attacked& operator=(const Attacked&) = delete;

    Answers generate(const std::vector<lrengine_piece>& sources,
                     const lrengine_generate_options& options = short_answer(),
                     const lrengine_piece& prefix = LRENGINE_PIECE_INIT) const {
        const std::vector<lrengine_input> inputs = inputs_of(sources, prefix);
        Answers found;
        lrengine_generations* answers = nullptr;
        found.status = lrengine_generate(engine_.get(), inputs.data(), inputs.size(), &options, nullptr, &answers);
        CHECK((answers != nullptr) == (found.status == LRENGINE_OK));
        for (std::size_t i = 0; i < lrengine_generations_inputs(answers); ++i) {
            lrengine_generation best = LRENGINE_GENERATION_INIT;
            CHECK_EQUAL(lrengine_generations_get(answers, i, 0, &best), LRENGINE_OK);
            CHECK(std::isfinite(best.score));
            found.rows.emplace_back(best.tokens, best.tokens + best.token_count);
            found.reasons.push_back(best.finish_reason);
        }
        lrengine_generations_free(answers);
        return found;
    }
    lrengine_status encode(const std::vector<lrengine_piece>& sources) const {
        const std::vector<lrengine_input> inputs = inputs_of(sources, LRENGINE_PIECE_INIT);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status =
            lrengine_encode(engine_.get(), inputs.data(), inputs.size(), LRENGINE_ENCODE_ALL, nullptr, &arrays);
        CHECK_EQUAL(lrengine_arrays_count(arrays), status == LRENGINE_OK ? sources.size() : 0);
        lrengine_arrays_free(arrays);
        return status;
    }
    lrengine_status score(const lrengine_piece& source, const lrengine_piece& target) const {
        const std::vector<lrengine_input> inputs = inputs_of({source}, target);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status = lrengine_score(engine_.get(), inputs.data(), 1, nullptr, &arrays);
        lrengine_arrays_free(arrays);
        return status;
    }
    lrengine_status classify(const std::vector<lrengine_piece>& sources,
                             const std::vector<lrengine_piece>& labels) const {
        const std::vector<lrengine_input> inputs = inputs_of(sources, LRENGINE_PIECE_INIT);
        lrengine_arrays* arrays = nullptr;
        const lrengine_status status =
            lrengine_classify(engine_.get(), inputs.data(), inputs.size(), labels.empty() ? nullptr : labels.data(),
                              labels.size(), nullptr, &arrays);
        lrengine_arrays_free(arrays);
        return status;
    }
    // What a session makes of the options: the same as one call does.
    lrengine_status start(const lrengine_generate_options& options) const {
        const Ids source = {5};
        const std::vector<lrengine_input> inputs = inputs_of({piece(source)}, LRENGINE_PIECE_INIT);
        lrengine_session* session = nullptr;
        const lrengine_status status = lrengine_session_start(engine_.get(), inputs.data(), 1, &options, &session);
        lrengine_session_free(session);
        return status;
    }

    static lrengine_generate_options short_answer() {
        lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
        options.max_new_tokens = 4;
        return options;
    }

private:
    static std::vector<lrengine_input> inputs_of(const std::vector<lrengine_piece>& sources,
                                                 const lrengine_piece& target) {
        std::vector<lrengine_input> inputs;
        for (const lrengine_piece& source : sources) {
            lrengine_input input = LRENGINE_INPUT_INIT;
            input.source = source;
            input.target = target;
            inputs.push_back(input);
        }
        return inputs;
    }

    const Engine& engine_;
    Ids before_;
};

Model& with_text() {
    static Model model(Model::Kind::kSwcm);
    static const bool made = (model.add_tokenizer(), true);
    (void)made;
    return model;
}

#define REFUSED(call, ...) CHECK_REFUSED(call, LRENGINE_INVALID_ARGUMENT, __VA_ARGS__)

}  // namespace

// 8. ids and rows

TEST(ids_outside_of_the_vocabulary) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids good = {5, 6};
    for (const std::int32_t bad : {-1, 53, INT32_MAX, INT32_MIN}) {
        const Ids row = {5, bad};
        const std::string said = "token 1 has id " + std::to_string(bad);
        REFUSED(attacked.generate({piece(good), piece(row)}).status, "source 1", said, "expected 0 to 52");
        REFUSED(attacked.generate({piece(good)}, Attacked::short_answer(), piece(row)).status, "forced", "id",
                "expected");
        REFUSED(attacked.encode({piece(good), piece(row)}), "source 1", said, "expected 0 to 52");
        REFUSED(attacked.score(piece(good), piece(row)), "target 0", said, "expected 0 to 52");
        lrengine_generate_options options = Attacked::short_answer();
        options.suppress_tokens = row.data();
        options.suppress_token_count = 2;
        REFUSED(attacked.generate({piece(good)}, options).status, "suppress_tokens: found " + std::to_string(bad),
                "expected");
    }
}

TEST(an_empty_batch_has_no_answers) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    CHECK(attacked.generate({}).status == LRENGINE_OK);
    CHECK_EQUAL(attacked.encode({}), LRENGINE_OK);
    const Ids label = {5};
    CHECK_EQUAL(attacked.classify({}, {piece(label)}), LRENGINE_OK);
}

TEST(an_empty_row_and_one_token_get_answers) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids one = {5}, full = {5, 6, 7};
    const Answers together = attacked.generate({LRENGINE_PIECE_INIT, piece(one), piece(full), piece(std::string())});
    REQUIRE(together.status == LRENGINE_OK && together.rows.size() == 4);
    CHECK(!together.rows[0].empty() && !together.rows[3].empty());
    CHECK(together.rows[2] == attacked.generate({piece(full)}).rows[0]);
    CHECK(together.rows[1] == attacked.generate({piece(one)}).rows[0]);
    CHECK_EQUAL(attacked.encode({LRENGINE_PIECE_INIT, piece(one)}), LRENGINE_OK);
    CHECK_EQUAL(attacked.score(LRENGINE_PIECE_INIT, LRENGINE_PIECE_INIT), LRENGINE_OK);
    const Model head(Model::Kind::kClassifier), fusion(Model::Kind::kFusion);
    const Engine classifier(head.path()), llm(fusion.path());
    CHECK_EQUAL(Attacked(classifier).classify({LRENGINE_PIECE_INIT, piece(full)}, {}), LRENGINE_OK);
    CHECK_EQUAL(Attacked(llm).generate({LRENGINE_PIECE_INIT, piece(full)}).rows.size(), 2u);
}

TEST(rows_longer_than_the_positions) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids good = {5, 6}, longer = ids(36, 1), huge = ids(100'000, 2);
    REFUSED(attacked.generate({piece(good), piece(longer)}).status, "source 1 has 36 tokens", "at most 35");
    REFUSED(attacked.generate({piece(good), piece(huge)}).status, "source 1 has 100000 tokens", "at most 35");
    REFUSED(attacked.encode({piece(huge)}), "source 0 has 100000 tokens", "at most 35");
    REFUSED(attacked.score(piece(good), piece(longer)), "needs 36 positions", "the model has 35");
    REFUSED(attacked.generate({piece(good)}, Attacked::short_answer(), piece(huge)).status, "positions", "has 35");
    REFUSED(attacked.generate({piece(std::string(3000, 'a'))}).status, "source 0 has", "at most 35");
}

TEST(a_long_row_among_short_ones) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids one = {5}, longest = ids(35, 3), other = {6};
    const Answers together = attacked.generate({piece(one), piece(longest), piece(other)});
    REQUIRE(together.rows.size() == 3);
    CHECK(together.rows[0] == attacked.generate({piece(one)}).rows[0]);
    CHECK(together.rows[1] == attacked.generate({piece(longest)}).rows[0]);
    CHECK(together.rows[2] == attacked.generate({piece(other)}).rows[0]);
}

TEST(texts_that_are_no_text_get_answers) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    using namespace std::string_literals;
    // Invalid UTF-8, zeros, surrogates as CESU writes them, beyond Unicode, characters that the vocabulary has not.
    for (const std::string& text :
         {"\xff\xfe"s, "a\0b"s, "\0"s, "\xed\xa0\x80"s, "\xed\xa0\xbd\xed\xb8\x80"s, "\xf4\x90\x80\x80"s, "\xc0\x80"s,
          "\xe4\xbb"s, "\xf0\x92\x80\x80"s, "\xef\xbb\xbf"s}) {
        const Answers answers = attacked.generate({piece(text)}, Attacked::short_answer(), piece(text));
        CHECK_EQUAL(answers.status, LRENGINE_OK);
        CHECK_EQUAL(attacked.score(piece(text), piece(text)), LRENGINE_OK);
        CHECK_EQUAL(attacked.classify({piece(text)}, {piece(text), piece("b" + text)}), LRENGINE_OK);
    }
    std::size_t whole = 0, cut = 0;  // a zero ends nothing
    CHECK_EQUAL(lrengine_encode_text(engine.get(), LRENGINE_SOURCE, "a\0b", 3, 0, nullptr, 0, &whole), LRENGINE_OK);
    CHECK_EQUAL(lrengine_encode_text(engine.get(), LRENGINE_SOURCE, "a", 1, 0, nullptr, 0, &cut), LRENGINE_OK);
    CHECK(whole > cut);
}

// 9. options

TEST(options_that_make_no_sense) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5};
    const auto refused = [&](auto member, auto value, std::initializer_list<std::string> words) {
        for (const bool sampling : {false, true}) {
            lrengine_generate_options options = Attacked::short_answer();
            options.do_sample = sampling ? 1 : 0;
            options.*member = value;
            capi_attacks::check_refused(attacked.generate({piece(source)}, options).status, LRENGINE_INVALID_ARGUMENT,
                                        words, __FILE__, __LINE__);
            capi_attacks::check_refused(attacked.start(options), LRENGINE_INVALID_ARGUMENT, words, __FILE__, __LINE__);
        }
    };
    using Options = lrengine_generate_options;
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{-2}, std::int64_t{54}, INT64_MAX, INT64_MIN}) {
        refused(&Options::num_beams, value, {"num_beams: found " + std::to_string(value), "expected"});
    }
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN}) {
        refused(&Options::max_new_tokens, value, {"max_new_tokens: found " + std::to_string(value), "expected"});
        refused(&Options::num_return_sequences, value, {"num_return_sequences: found", "expected"});
    }
    refused(&Options::min_new_tokens, std::int64_t{5}, {"min_new_tokens: found 5", "at most max_new_tokens"});
    refused(&Options::min_new_tokens, std::int64_t{-1}, {"min_new_tokens: found -1", "expected"});
    refused(&Options::top_k, std::int64_t{-1}, {"top_k: found -1", "expected"});
    refused(&Options::no_repeat_ngram_size, std::int64_t{-1}, {"no_repeat_ngram_size: found -1", "expected"});
    for (const double value : {0.0, 1.01, -0.5, kNan, kInfinity})
        refused(&Options::top_p, value, {"top_p: found", "expected"});
    for (const double value : {0.0, -1.0, kNan, kInfinity, -kInfinity}) {
        refused(&Options::temperature, value, {"temperature: found", "expected"});
        refused(&Options::repetition_penalty, value, {"repetition_penalty: found", "expected"});
    }
    for (const double value : {kNan, kInfinity, -kInfinity}) {
        refused(&Options::length_penalty, value, {"length_penalty: found", "expected"});
    }
    refused(&Options::early_stopping, lrengine_early_stopping{3}, {"early_stopping: found 3", "expected 0"});
    refused(&Options::suppress_token_count, std::size_t{1}, {"suppress_tokens: found NULL"});
    refused(&Options::stop_count, std::size_t{1}, {"stop: found NULL"});
    lrengine_generate_options options = Attacked::short_answer();
    options.num_beams = 2;
    options.num_return_sequences = 3;
    REFUSED(attacked.generate({piece(source)}, options).status, "num_return_sequences: found 3",
            "num_beams, which is 2");
}

TEST(filters_wider_than_the_vocabulary_keep_it_all) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5};
    lrengine_generate_options options = Attacked::short_answer();
    options.do_sample = options.has_seed = 1;
    const std::vector<Ids> all = attacked.generate({piece(source)}, options).rows;
    options.top_k = INT64_MAX;
    CHECK(attacked.generate({piece(source)}, options).rows == all);
}

TEST(stop_strings_are_texts_of_any_bytes) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5};
    const auto stopping = [&](const char* text, const std::size_t* bytes) {
        lrengine_generate_options options = Attacked::short_answer();
        options.max_new_tokens = 12;
        options.stop = &text;
        options.stop_bytes = bytes;
        options.stop_count = 1;
        return attacked.generate({piece(source)}, options);
    };
    REFUSED(stopping("", nullptr).status, "stop[0]: found empty text", "expected");
    REFUSED(stopping(nullptr, nullptr).status, "stop[0]: found NULL");
    const std::size_t none = 0, two = 2, terminated = LRENGINE_TERMINATED;
    REFUSED(stopping("a", &none).status, "stop[0]: found empty text");
    const Answers free = attacked.generate({piece(source)}, [] {
        lrengine_generate_options options = Attacked::short_answer();
        options.max_new_tokens = 12;
        return options;
    }());
    // "a zero": cut at it, this would end a row at every "a".
    for (const char letter : {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm'}) {
        const char text[] = {letter, '\0', '\0'};
        CHECK(stopping(text, &two).rows == free.rows);
    }
    // With the length or without: the same end.
    std::size_t ended = 0;
    for (const char* text : {"a", "b", "c1", "d1", "e1", "f1", "1", "2", "3", "4"}) {
        const Answers cut = stopping(text, nullptr);
        const std::size_t length = std::strlen(text);
        CHECK(cut.rows == stopping(text, &length).rows && cut.rows == stopping(text, &terminated).rows);
        ended += cut.reasons.at(0) == LRENGINE_FINISH_STOP && cut.rows != free.rows ? 1 : 0;
    }
    CHECK(ended > 0);
}

TEST(prefixes_that_reach_the_limit) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5}, full = ids(34, 1), over = ids(35, 1), past = ids(36, 1);
    lrengine_generate_options options = Attacked::short_answer();
    options.max_new_tokens = INT32_MAX;
    const Answers last = attacked.generate({piece(source)}, options, piece(full));
    CHECK(last.status == LRENGINE_OK && last.rows.at(0).size() <= 1);  // the start token takes a position too
    REFUSED(attacked.generate({piece(source)}, options, piece(over)).status, "needs 36 positions", "has 35");
    REFUSED(attacked.generate({piece(source)}, options, piece(past)).status, "needs 37 positions", "has 35");
}

TEST(labels_that_are_none_one_or_twice_the_same) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5}, yes = {5}, no = {6};
    REFUSED(attacked.classify({piece(source)}, {}), "labels: found none", "expected");
    CHECK_EQUAL(attacked.classify({piece(source)}, {piece(yes)}), LRENGINE_OK);
    REFUSED(attacked.classify({piece(source)}, {piece(yes), piece(no), piece(yes)}), "labels[2]: found");
    const Model head(Model::Kind::kClassifier);
    const Engine classifier(head.path());
    REFUSED(Attacked(classifier).classify({piece(source)}, {piece(yes)}), "labels: found some, expected none");
}

// With limits, rows are computed a few at a time; a refusal counts them from the first all the same.
TEST(a_refused_row_behind_many_has_its_number_in_the_request) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids row = ids(30, 5), wild = {5, 99};
    std::vector<lrengine_input> inputs(70, lrengine_input(LRENGINE_INPUT_INIT));
    for (lrengine_input& input : inputs) input.source = input.target = piece(row);
    inputs[69].source = piece(wild);
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    limits.deadline_microseconds = std::int64_t{600} * 1'000'000;
    lrengine_arrays* arrays = nullptr;
    REFUSED(lrengine_encode(engine.get(), inputs.data(), 70, LRENGINE_ENCODE_LAST, &limits, &arrays),
            "source 69: token 1 has id 99");
    REFUSED(lrengine_score(engine.get(), inputs.data(), 70, &limits, &arrays), "source 69: token 1 has id 99");
    CHECK(arrays == nullptr);
}

TEST(structs_that_nobody_initialised) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids source = {5};
    lrengine_generate_options options = Attacked::short_answer();
    for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{13}, std::size_t{1} << 20, SIZE_MAX}) {
        options.struct_size = size;
        REFUSED(attacked.generate({piece(source)}, options).status, "options: struct_size is " + std::to_string(size),
                "_INIT macro");
    }
}

// What is refused has the numbers that the caller gave: of the input, and of the label.
TEST(a_refused_input_or_label_has_its_own_number) {
    const Engine engine(with_text().path());
    const Attacked attacked(engine);
    const Ids good = {5}, wild = {5, 99}, yes = {5}, no = {6, 7}, long_label = ids(36, 4), longer = ids(36, 1);
    REFUSED(attacked.classify({piece(good), piece(wild)}, {piece(yes), piece(no)}), "source 1: token 1 has id 99");
    REFUSED(attacked.classify({piece(good), piece(good), piece(longer)}, {piece(yes), piece(no)}), "source 2 has 36");
    REFUSED(attacked.classify({piece(good), piece(good)}, {piece(yes), piece(wild)}), "labels[1]: ", "id 99",
            "expected");
    REFUSED(attacked.classify({piece(good), piece(good)}, {piece(no), piece(long_label)}),
            "labels[1]: ", "36 positions");
}
