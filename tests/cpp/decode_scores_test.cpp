// Processors, warpers and random numbers: what happens to one row of scores.
#include <array>
#include <cmath>
#include <limits>

#include "decode/logits_processors.h"
#include "decode/random.h"
#include "decode/warpers.h"
#include "harness.h"

namespace {

using lrengine::Candidate;
using lrengine::GenerationOptions;
using lrengine::LogitsProcessors;

constexpr float kNever = -std::numeric_limits<float>::infinity();

std::vector<float> processed(const GenerationOptions& options, std::vector<std::int32_t> history,
                             std::int64_t generated, std::vector<float> scores) {
    LogitsProcessors processors(options, std::array<std::int32_t, 2>{1, 2});
    processors.apply(history, generated, scores);
    return scores;
}

std::vector<std::int32_t> tokens(const std::vector<Candidate>& candidates) {
    std::vector<std::int32_t> ids;
    for (const Candidate& candidate : candidates) ids.push_back(candidate.token);
    return ids;
}

}  // namespace

TEST(philox_gives_the_published_vectors) {
    // Random123's known answers for philox4x32-10.
    CHECK((lrengine::philox({0, 0, 0, 0}, {0, 0}) ==
           std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    CHECK((lrengine::philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
           std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(uniform_numbers_are_uniform) {
    const lrengine::RandomStream random(3, 4);
    std::array<int, 10> bins{};
    for (std::uint32_t i = 0; i < 10000; ++i) bins[static_cast<std::size_t>(random.uniform(i % 7, i) * 10)]++;
    double chi_square = 0.0;
    for (const int count : bins) chi_square += (count - 1000.0) * (count - 1000.0) / 1000.0;
    CHECK(chi_square < 27.9);  // 9 degrees of freedom, p = 0.001
}

TEST(repetition_penalty_counts_a_token_once) {
    GenerationOptions options;
    options.repetition_penalty = 2.0;
    CHECK((processed(options, {0, 3, 3}, 2, {4, 1, 1, -1, 5}) == std::vector<float>{2, 1, 1, -2, 5}));
}

TEST(a_tiny_temperature_draws_the_likeliest_and_never_a_banned_token) {
    GenerationOptions options;
    for (const double temperature : {1e-30, 1e-38, 1e-44}) {
        options.temperature = temperature;
        for (const std::vector<float>& scores :
             {std::vector<float>{kNever, 30, 20, kNever}, std::vector<float>{kNever, -20, -30, kNever}}) {
            std::vector<Candidate> kept;
            lrengine::warp(scores, options, 1, kept);
            for (const double uniform : {1e-9, 0.5, 1 - 1e-9}) CHECK_EQUAL(lrengine::draw(kept, uniform), 1);
            options.top_p = 0.9;
            lrengine::warp(scores, options, 2, kept);
            CHECK((tokens(kept) == std::vector<std::int32_t>{1, 2}));
            options.top_p = 1.0;
        }
    }
    constexpr float kAlways = std::numeric_limits<float>::infinity();
    const std::vector<Candidate> overflown{{kNever, 0}, {1, 1}, {kAlways, 2}};
    for (const double uniform : {1e-9, 0.5, 1 - 1e-9}) CHECK_EQUAL(lrengine::draw(overflown, uniform), 2);
}

TEST(ngrams_of_the_history_are_not_completed_again) {
    GenerationOptions options;
    options.no_repeat_ngram_size = 2;
    CHECK((processed(options, {0, 3, 4, 0}, 3, {1, 1, 1, 1, 1}) == std::vector<float>{1, 1, 1, kNever, 1}));
    CHECK((processed(options, {0}, 0, {1, 1}) == std::vector<float>{1, 1}));
    options.no_repeat_ngram_size = 1;
    CHECK((processed(options, {0, 3}, 1, {1, 1, 1, 1}) == std::vector<float>{kNever, 1, 1, kNever}));
}

TEST(an_ngram_that_is_the_whole_history_counts) {
    GenerationOptions options;
    options.no_repeat_ngram_size = 2;
    CHECK((processed(options, {4, 4}, 2, {0, 0, 0, 0, 0}) == std::vector<float>{0, 0, 0, 0, kNever}));
    CHECK((processed(options, {4}, 1, {0, 0, 0, 0, 0}) == std::vector<float>{0, 0, 0, 0, 0}));
}

TEST(filters_stop_at_exactly_their_mass_and_leave_what_beams_need) {
    GenerationOptions options;
    std::vector<Candidate> kept;
    const std::array<float, 4> equal{0, 0, -40, -41};
    options.top_p = 0.5;  // which the first of two equal tokens reaches
    lrengine::warp(equal, options, 1, kept);
    CHECK_EQUAL(kept.size(), 1u);
    lrengine::warp(equal, options, 3, kept);
    CHECK_EQUAL(kept.size(), 3u);
    options.top_p = 1.0;
    options.top_k = 1;
    lrengine::warp(std::array<float, 3>{1, 2, 3}, options, 2, kept);
    CHECK((tokens(kept) == std::vector<std::int32_t>{1, 2}));
}

TEST(end_tokens_wait_for_min_new_tokens) {
    GenerationOptions options;
    options.min_new_tokens = 3;
    CHECK((processed(options, {0}, 2, {1, 1, 1}) == std::vector<float>{1, kNever, kNever}));
    CHECK((processed(options, {0}, 3, {1, 1, 1}) == std::vector<float>{1, 1, 1}));
}

TEST(top_k_keeps_ties_and_top_p_the_token_that_reaches_it) {
    GenerationOptions options;
    std::vector<Candidate> kept;
    options.top_k = 2;
    lrengine::warp(std::vector<float>{1, 3, 2, 2, 0}, options, 1, kept);
    CHECK((tokens(kept) == std::vector<std::int32_t>{1, 2, 3}));
    options.top_k = 0;
    const std::vector<float> scores = {std::log(0.1f), std::log(0.5f), std::log(0.3f), std::log(0.1f)};
    options.top_p = 0.6;
    lrengine::warp(scores, options, 1, kept);
    CHECK((tokens(kept) == std::vector<std::int32_t>{1, 2}));
    options.top_p = 0.4;
    lrengine::warp(scores, options, 1, kept);
    CHECK((tokens(kept) == std::vector<std::int32_t>{1}));
    lrengine::warp(scores, options, 2, kept);
    CHECK((tokens(kept) == std::vector<std::int32_t>{1, 2}));
}

TEST(draw_follows_the_cumulated_probabilities) {
    const std::vector<Candidate> candidates = {
        {std::log(0.25f), 7}, {std::log(0.5f), 3}, {std::log(0.25f), 9}, {kNever, 4}};
    CHECK_EQUAL(lrengine::draw(candidates, 0.01), 7);
    CHECK_EQUAL(lrengine::draw(candidates, 0.3), 3);
    CHECK_EQUAL(lrengine::draw(candidates, 0.7), 3);
    CHECK_EQUAL(lrengine::draw(candidates, 0.76), 9);
    CHECK_EQUAL(lrengine::draw(candidates, 1.0 - 1e-16), 9);
}
