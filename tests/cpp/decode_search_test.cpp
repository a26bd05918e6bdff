// Whole searches over a fake generator whose logits depend on what the cache holds.
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>

#include "decode_fakes.h"
#include "harness.h"

namespace {

using fakes::Batch;
using fakes::Ids;
using Sources = std::vector<Ids>;
using lrengine::EarlyStopping;
using lrengine::FinishReason;
using lrengine::GenerationOptions;
using lrengine::Hypothesis;

constexpr std::int64_t kVocab = 11;
const Ids kEnd = {2};

double log_prob(const Ids& source, const Ids& history, std::int32_t token) {
    const auto logits = fakes::logits_after(source, history, kVocab);
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    return logits[static_cast<std::size_t>(token)] - std::log(sum);
}

// The score that a hypothesis must have, from its tokens alone.
double rescored(const Ids& source, const Hypothesis& hypothesis) {
    Ids history = {0};
    double score = 0.0;
    Ids tokens = hypothesis.tokens;
    if (hypothesis.token_log_probs.size() > tokens.size()) tokens.push_back(kEnd[0]);
    for (const std::int32_t token : tokens) {
        score += log_prob(source, history, token);
        history.push_back(token);
    }
    return score;
}

GenerationOptions with_beams(std::int64_t beams, std::int64_t tokens) {
    GenerationOptions options;
    options.num_beams = options.num_return_sequences = beams;
    options.max_new_tokens = tokens;
    return options;
}

bool same(const std::vector<Hypothesis>& left, const std::vector<Hypothesis>& right) {
    if (left.size() != right.size()) return false;
    for (std::size_t i = 0; i < left.size(); ++i) {
        if (left[i].tokens != right[i].tokens || left[i].token_log_probs != right[i].token_log_probs) return false;
        if (left[i].finish_reason != right[i].finish_reason) return false;
    }
    return true;
}

// Best total log-probability over every sequence of at most `length` tokens that ends, or has `length` tokens.
double exhaustive(const Ids& source, Ids& history, std::int64_t length) {
    if (length == 0) return 0.0;
    double best = -1e300;
    for (std::int32_t token = 0; token < kVocab; ++token) {
        const double score = log_prob(source, history, token);
        history.push_back(token);
        best = std::max(best, score + (token == kEnd[0] ? 0.0 : exhaustive(source, history, length - 1)));
        history.pop_back();
    }
    return best;
}

}  // namespace

TEST(greedy_takes_the_likeliest_token_until_the_end) {
    const Batch batch({{1, 2}, {3}, {4, 5, 6}, {}});
    GenerationOptions options;
    options.max_new_tokens = 9;
    const auto results = batch.run(kVocab, options, kEnd);
    for (std::size_t i = 0; i < results.size(); ++i) {
        Ids history = {0};
        const Hypothesis& found = results[i].front();
        for (const float score : found.token_log_probs) {
            const auto logits = fakes::logits_after(batch.sources[i], history, kVocab);
            const auto token =
                static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
            CHECK(std::abs(score - log_prob(batch.sources[i], history, token)) < 1e-5);
            history.push_back(token);
        }
        const bool ended = history.back() == kEnd[0];
        if (ended) history.pop_back();
        CHECK((Ids(history.begin() + 1, history.end()) == found.tokens));
        CHECK(found.finish_reason == (ended ? FinishReason::kStop : FinishReason::kLength));
        CHECK(ended || found.tokens.size() == 9);
    }
}

TEST(finished_rows_leave_the_batch) {
    std::vector<Ids> sources;
    for (std::int32_t i = 0; i < 12; ++i) sources.push_back({i});
    fakes::FakeState::fed_rows.clear();
    GenerationOptions options;
    options.max_new_tokens = 30;
    Batch(sources).run(kVocab, options, kEnd);
    const auto& rows = fakes::FakeState::fed_rows;
    CHECK(std::is_sorted(rows.rbegin(), rows.rend()));
    CHECK(rows.back() < rows.front());
}

TEST(scores_are_the_models_own_log_probabilities_whatever_the_options) {
    const Batch batch({{1}, {2, 9}});
    for (const std::int64_t beams : {1, 3}) {
        for (const bool sample : {false, true}) {
            GenerationOptions options = with_beams(beams, 8);
            options.do_sample = sample;
            options.seed = 5;
            options.temperature = 0.7;
            options.repetition_penalty = 1.5;
            options.no_repeat_ngram_size = 2;
            options.suppress_tokens = {4};
            const auto results = batch.run(kVocab, options, kEnd);
            for (std::size_t i = 0; i < results.size(); ++i) {
                for (const Hypothesis& found : results[i]) {
                    CHECK(std::abs(found.score() - rescored(batch.sources[i], found)) < 1e-4);
                    CHECK(std::find(found.tokens.begin(), found.tokens.end(), 4) == found.tokens.end());
                }
            }
        }
    }
}

TEST(enough_beams_find_the_best_sequence_of_all) {
    GenerationOptions options = with_beams(11, 3);
    options.length_penalty = 0.0;
    options.early_stopping = EarlyStopping::kNever;
    for (const Ids& source : {Ids{1}, Ids{2, 3}, Ids{8, 8, 8}}) {
        Ids history = {0};
        const auto results = Batch({source}).run(kVocab, options, kEnd);
        CHECK(std::abs(results[0][0].score() - exhaustive(source, history, 3)) < 1e-4);
        std::set<Ids> distinct;
        for (const Hypothesis& found : results[0]) distinct.insert(found.tokens);
        CHECK(distinct.size() >= 10);  // [.. end] and [..] of the longest length may share tokens
    }
}

TEST(a_decided_beam_search_ends_before_its_limit) {
    for (const EarlyStopping early : {EarlyStopping::kFirst, EarlyStopping::kHeuristic}) {
        GenerationOptions options = with_beams(2, 200);
        options.early_stopping = early;
        fakes::FakeState::fed_rows.clear();
        Batch({{1}, {2}}).run(kVocab, options, kEnd);
        CHECK(fakes::FakeState::fed_rows.size() < 100);
    }
}

TEST(answers_do_not_depend_on_batch_mates) {
    const std::vector<Ids> sources = {{1}, {2, 3, 4}, {}, {5, 5}, {7, 1, 7}};
    for (const std::int64_t beams : {1, 2, 5}) {
        for (const bool sample : {false, true}) {
            GenerationOptions options = with_beams(beams, 12);
            options.do_sample = sample;
            options.seed = 11;
            if (sample && beams == 1) options.num_return_sequences = 3;
            const auto together = Batch(sources).run(kVocab, options, kEnd);
            for (std::size_t i = 0; i < sources.size(); ++i) {
                CHECK(same(together[i], Batch({sources[i]}).run(kVocab, options, kEnd)[0]));
            }
        }
    }
}

TEST(samples_differ_from_each_other_and_follow_the_seed) {
    GenerationOptions options;
    options.do_sample = true;
    options.num_return_sequences = 6;
    options.max_new_tokens = 6;
    options.seed = 1;
    const Batch batch({{1}, {1}});
    const auto first = batch.run(kVocab, options, kEnd);
    CHECK(same(first[0], batch.run(kVocab, options, kEnd)[0]));
    CHECK(!same(first[0], first[1]));  // equal inputs in one request draw apart
    std::set<Ids> distinct;
    for (const Hypothesis& found : first[0]) distinct.insert(found.tokens);
    CHECK(distinct.size() > 3);
    options.seed = 2;
    CHECK(!same(first[0], batch.run(kVocab, options, kEnd)[0]));
}

TEST(first_sampled_tokens_have_the_models_distribution) {
    GenerationOptions options;
    options.do_sample = true;
    options.num_return_sequences = 4000;
    options.max_new_tokens = 1;
    options.seed = 9;
    std::map<std::int32_t, double> counts;
    const auto results = Batch(Sources{Ids{3}}).run(kVocab, options, kEnd);
    for (const Hypothesis& found : results[0]) {
        counts[found.tokens.empty() ? kEnd[0] : found.tokens[0]] += 1.0;
    }
    double chi_square = 0.0;
    for (std::int32_t token = 0; token < kVocab; ++token) {
        const double expected = 4000.0 * std::exp(log_prob({3}, {0}, token));
        chi_square += (counts[token] - expected) * (counts[token] - expected) / expected;
    }
    CHECK(chi_square < 29.6);  // 10 degrees of freedom, p = 0.001
}

TEST(a_stop_hook_ends_rows_and_beams) {
    const lrengine::StopHook stop = [](std::int64_t source, std::span<const std::int32_t> tokens) {
        return tokens.size() == (source == 0 ? 3u : 4u);
    };
    for (const std::int64_t beams : {1, 3}) {
        const auto results = Batch({{1}, {2}}).run(kVocab, with_beams(beams, 20), {}, stop);
        for (const std::size_t source : {0u, 1u}) {
            CHECK_EQUAL(results[source][0].tokens.size(), source == 0 ? 3u : 4u);
            CHECK(results[source][0].finish_reason == FinishReason::kStop);
        }
    }
}

TEST(an_exception_in_the_stop_hook_reaches_the_caller) {
    const lrengine::StopHook stop = [](std::int64_t, std::span<const std::int32_t>) -> bool {
        lrengine::fail(lrengine::ErrorCode::kInvalidArgument, "from the hook");
    };
    CHECK_ERROR(Batch(Sources{Ids{1}}).run(kVocab, with_beams(1, 5), kEnd, stop), lrengine::ErrorCode::kInvalidArgument,
                "from the hook");
}

// The stop hook throws in the third step, for the second source: no row keeps that step's token, the first's neither.
TEST(a_step_that_throws_leaves_what_there_was_before_it) {
    for (const std::int64_t beams : {1, 3}) {
        const fakes::FakeGenerator generator(kVocab);
        const auto throws_late = [](std::int64_t source, std::span<const std::int32_t> tokens) -> bool {
            if (source == 1 && tokens.size() == 3) throw std::runtime_error("late");
            return source == 0 && tokens.size() == 3;  // the first source's row ends in that step
        };
        const auto search = Batch({{5, 6}, {7}}).start(generator, with_beams(beams, 9), {}, throws_late);
        search->step();
        search->step();
        const auto before = search->results();
        bool thrown = false;
        try {
            search->step();
        } catch (const std::runtime_error&) {
            thrown = true;
        }
        CHECK(thrown && search->done());
        const auto after = search->results();
        for (const std::size_t source : {0u, 1u}) {
            CHECK_EQUAL(before[source][0].tokens.size(), 2u);
            CHECK(after[source][0].tokens == before[source][0].tokens);
            CHECK(after[source][0].token_log_probs == before[source][0].token_log_probs);
            CHECK(after[source][0].finish_reason == FinishReason::kCancelled);
        }
    }
}

TEST(a_step_that_throws_ends_the_search) {
    for (const std::int64_t beams : {1, 3}) {
        const fakes::FakeGenerator generator(kVocab);
        std::size_t calls = 0;
        const auto throws_once = [&](std::int64_t, std::span<const std::int32_t>) -> bool {
            if (++calls == 2) throw std::runtime_error("once");
            return false;
        };
        const auto search = Batch({{5, 6}, {7}}).start(generator, with_beams(beams, 5), kEnd, throws_once);
        bool thrown = false;
        while (!search->done()) {
            try {
                search->step();
            } catch (const std::runtime_error&) {
                thrown = true;
            }
        }
        CHECK(thrown);
        const std::size_t before = calls;
        search->step();
        CHECK_EQUAL(calls, before);
        CHECK(search->results()[1][0].finish_reason == FinishReason::kCancelled);
    }
}

TEST(a_cancelled_search_gives_what_it_has) {
    const fakes::FakeGenerator generator(kVocab);
    for (const std::int64_t beams : {1, 3}) {
        const Batch batch(Sources{Ids{1}});
        auto search = batch.start(generator, with_beams(beams, 20), {});
        for (int i = 0; i < 4; ++i) search->step();
        search->cancel();
        search->cancel();
        search->step();
        CHECK(search->done());
        CHECK_EQUAL(search->results()[0].size(), static_cast<std::size_t>(beams));
        CHECK_EQUAL(search->results()[0][0].tokens.size(), 4u);
        CHECK(search->results()[0][0].finish_reason == FinishReason::kCancelled);
        auto unstarted = batch.start(generator, with_beams(beams, 20), {});
        unstarted->cancel();
        unstarted->step();
        CHECK(unstarted->results()[0][0].tokens.empty());
    }
}

TEST(rows_end_where_the_models_positions_do) {
    const fakes::FakeGenerator generator(kVocab, 6);
    Batch batch({{1}, {2}});
    batch.forced[0] = {0, 1, 1, 1};
    for (const std::int64_t beams : {1, 3}) {
        auto search = batch.start(generator, with_beams(beams, 50), {});
        while (!search->done()) search->step();
        for (const std::size_t source : {0u, 1u}) {
            const Hypothesis found = search->results()[source][0];
            CHECK_EQUAL(found.tokens.size(), source == 0 ? 3u : 6u);
            CHECK(found.finish_reason == FinishReason::kLength);
        }
    }
}
