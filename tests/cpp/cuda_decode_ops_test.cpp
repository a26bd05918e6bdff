// The ops that end a decode step on the device, against what the host does: processors, warpers and draws, beams.
#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <tuple>

#include "cuda_engine.h"
#include "decode/beam_hypotheses.h"
#include "decode/logits_processors.h"
#include "decode/random.h"
#include "decode/warpers.h"
#include "runtime/backend_library.h"

using namespace cuda_engine;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// A backend, and memory of it that goes with this.
class DeviceMemory {
public:
    DeviceMemory() : backend_(open_cuda("cuda")), arena_(*backend_) {}

    template <typename T>
    T* upload(const std::vector<T>& values) {
        T* memory = arena_.array<T>(std::ssize(values) + 1);
        backend_->copy_to_device(memory, values.data(), values.size() * sizeof(T));
        return memory;
    }
    Matrix matrix(const std::vector<float>& values, std::int64_t rows) {
        const std::int64_t cols = std::ssize(values) / rows;
        return {upload(values), DType::kFloat32, rows, cols, cols};
    }
    template <typename T>
    std::vector<T> fetch(const T* memory, std::size_t count) {
        std::vector<T> values(count);
        backend_->copy_to_host(values.data(), memory, count * sizeof(T));
        return values;
    }
    Backend& backend() { return *backend_; }

private:
    FreshDevice fresh_;
    std::shared_ptr<Backend> backend_;
    Arena arena_;
};

std::vector<float> random_scores(std::size_t count, float spread, std::mt19937& generator) {
    std::normal_distribution<float> normal(0.0f, spread);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

// Rows of `scores` drawn on the device and on the host, with a stream and a step of their own.
void check_draws(const std::vector<float>& scores, std::int64_t rows, const GenerationOptions& options,
                 std::int64_t sorted) {
    DeviceMemory memory;
    const std::int64_t vocab = std::ssize(scores) / rows;
    std::vector<std::uint64_t> streams;
    Ids generated, expected;
    for (std::int64_t m = 0; m < rows; ++m) {
        const auto number = static_cast<std::uint64_t>(m);
        streams.insert(streams.end(), {*options.seed, 77 * number + (number << 40)});
        generated.push_back(static_cast<std::int32_t>(3 * m));
        const RandomStream random(*options.seed, streams.back());
        std::vector<Candidate> kept;
        warp(std::span(scores).subspan(static_cast<std::size_t>(m * vocab), static_cast<std::size_t>(vocab)), options,
             1, kept);
        expected.push_back(draw(kept, random.uniform(static_cast<std::uint32_t>(3 * m), 0)));
    }
    auto* ids = memory.upload(Ids(static_cast<std::size_t>(rows), -1));
    memory.backend().sample_tokens({.scores = memory.matrix(scores, rows),
                                    .temperature = static_cast<float>(options.temperature),
                                    .top_k = options.top_k,
                                    .top_p = options.top_p,
                                    .streams = memory.upload(streams),
                                    .generated = memory.upload(generated),
                                    .sorted = sorted,
                                    .ids = ids});
    CHECK(memory.fetch(ids, static_cast<std::size_t>(rows)) == expected);
}

GenerationOptions filters(double temperature, std::int64_t top_k, double top_p, std::uint64_t seed) {
    GenerationOptions options;
    options.temperature = temperature;
    options.top_k = top_k;
    options.top_p = top_p;
    options.seed = seed;
    return options;
}

}  // namespace

TEST(draws_are_the_hosts_with_every_filter) {
    std::mt19937 generator(1);
    for (const std::int64_t vocab : {1, 33, 5000}) {
        const std::vector<float> scores = random_scores(static_cast<std::size_t>(5 * vocab), 3.0f, generator);
        for (const std::int64_t top_k : {0, 1, 5, 40, 6000}) {
            for (const double top_p : {1.0, 0.9, 0.2, 1e-9}) {
                check_draws(scores, 5, filters(0.8, top_k, top_p, 11), 1024);
            }
        }
    }
}

TEST(draws_beyond_the_sorted_candidates_are_the_hosts) {
    std::mt19937 generator(2);
    std::vector<float> flat = random_scores(6 * 700, 0.3f, generator);
    for (std::size_t i = 0; i < flat.size(); i += 3) flat[i] = std::round(flat[i] * 8.0f) / 8.0f;  // ties
    for (const double top_p : {0.3, 0.9, 0.999999999}) {
        check_draws(flat, 6, filters(1.3, 0, top_p, 5), 4);
        check_draws(flat, 6, filters(1.3, 3, top_p, 6), 4);
    }
    check_draws(std::vector<float>(6 * 700, 1.0f), 6, filters(1.0, 0, 0.5, 7), 1);
    check_draws(std::vector<float>(6 * 700, 1.0f), 6, filters(1.0, 10, 0.5, 8), 1);  // all are equal to the tenth
}

TEST(draws_of_extreme_scores_are_the_hosts) {
    constexpr float kLargest = std::numeric_limits<float>::max();
    const std::vector<float> scores{-kInf, 1e38f, 1.1e38f, -kLargest, 0.0f, -0.0f, 1e-40f, -kInf};
    for (const double temperature : {1e-30, 0.01, 1.0, 1e30}) {
        for (const double top_p : {1.0, 0.7}) {
            check_draws(scores, 1, filters(temperature, 0, top_p, 3), 3);
            check_draws(scores, 1, filters(temperature, 4, top_p, 4), 3);
        }
    }
}

TEST(processed_scores_are_the_hosts) {
    std::mt19937 generator(3);
    constexpr std::int64_t kVocab = 2500, kRows = 3;
    const std::vector<float> logits = random_scores(kRows * kVocab, 2.0f, generator);
    const std::vector<float> offsets{0.5f, -1.0f, 7.0f};
    const std::vector<Ids> histories{{5, 9, 5, 9, 2, 5, 9}, {1}, {2499, 2500, -1, 7, 7, 7}};
    constexpr std::int64_t kStride = 10;
    Ids table, lengths;
    for (const Ids& history : histories) {
        table.insert(table.end(), history.begin(), history.end());
        table.resize(kStride * (lengths.size() + 1), 3);
        lengths.push_back(static_cast<std::int32_t>(history.size()));
    }
    const Ids generated{4, 1, 2}, ends{2, 11};
    for (const double penalty : {1.0, 1.5, 0.4}) {
        for (const std::int32_t size : {0, 1, 2, 3, 8}) {
            GenerationOptions options;
            options.repetition_penalty = penalty;
            options.no_repeat_ngram_size = size;
            options.min_new_tokens = 3;
            options.suppress_tokens = {4, 4, 1000, 5};
            LogitsProcessors processors(options, ends);
            std::vector<float> expected;
            for (std::size_t m = 0; m < kRows; ++m) {
                std::vector<float> row(logits.begin() + static_cast<std::ptrdiff_t>(m) * kVocab,
                                       logits.begin() + static_cast<std::ptrdiff_t>(m + 1) * kVocab);
                for (float& value : row) value -= offsets[m];
                processors.apply(histories[m], generated[m], row);
                expected.insert(expected.end(), row.begin(), row.end());
            }
            DeviceMemory memory;
            const Matrix scores = memory.matrix(std::vector<float>(logits.size(), 99.0f), kRows);
            memory.backend().process_scores(
                {.logits = memory.matrix(logits, kRows),
                 .scores = scores,
                 .offsets = memory.upload(offsets),
                 .history = {memory.upload(table), memory.upload(lengths), kStride},
                 .generated = memory.upload(generated),
                 .repetition_penalty = static_cast<float>(penalty),
                 .no_repeat_ngram = size,
                 .banned = {memory.upload(options.suppress_tokens), memory.upload(ends), 4, 2, 3}});
            CHECK(memory.fetch(static_cast<float*>(scores.data), logits.size()) == expected);
        }
    }
}

namespace {

// The beams of one source over several steps of given candidates, on the host and on the device.
struct BeamCase {
    std::int64_t beams, k, candidates;
    std::int32_t banned;  // suppressed: this one and the next
    std::int32_t limit;
    bool ties;
};

constexpr std::int64_t kSources = 2, kCapacity = 40, kPrefilled = 6;

class BeamTrial {
public:
    explicit BeamTrial(const BeamCase& given) : given_(given), rows_(kSources * given.beams) {
        GenerationOptions options;
        options.num_beams = options.num_return_sequences = given.beams;
        std::vector<float> scores;
        Ids positions, cache_rows, lengths, history;
        for (std::int64_t m = 0; m < rows_; ++m) {
            if (m % given.beams == 0) {
                sources_.emplace_back(options, given.limit, ends_, StopHook{}, m / given.beams);
            }
            scores.push_back(sources_.back().running()[static_cast<std::size_t>(m % given.beams)].score);
            slots_.emplace_back(kCapacity, static_cast<std::int32_t>(m / given.beams * given.beams));
            slots_.back()[kPrefilled] = static_cast<std::int32_t>(m);
            history.insert(history.end(), slots_.back().begin(), slots_.back().end());
            positions.push_back(kPrefilled);
            cache_rows.push_back(static_cast<std::int32_t>(m * kCapacity + kPrefilled));
            lengths.push_back(kPrefilled + 1);
        }
        const Ids ones(static_cast<std::size_t>(rows_), 1), zeros(static_cast<std::size_t>(rows_), 0);
        args_ = {.step = {.rows = rows_,
                          .capacity = kCapacity,
                          .tokens = memory_.upload(ones),
                          .positions = memory_.upload(positions),
                          .cache_rows = memory_.upload(cache_rows),
                          .lengths = memory_.upload(lengths),
                          .history = memory_.upload(history),
                          .generated = memory_.upload(zeros)},
                 .beams = given.beams,
                 .candidates = given.candidates,
                 .values = {},
                 .banned = {memory_.upload(suppressed()), memory_.upload(ends_), 2, 1, 0},
                 .logits = {},
                 .history = {},
                 .limits = memory_.upload(Ids(kSources, given.limit)),
                 .scores = memory_.upload(scores)};
        const auto records = static_cast<std::size_t>(kStepRing * kSources * given.candidates);
        args_.records = static_cast<BeamRecord*>(memory_.backend().mailbox(records * sizeof(BeamRecord)));
    }

    void check() {
        for (std::int32_t number = 0; number < given_.limit; ++number) {
            make_candidates();
            args_.values = memory_.matrix(values_, rows_);
            args_.ids = memory_.upload(ids_);
            args_.log_sum_exp = memory_.upload(sums_);
            memory_.backend().take_beams(args_);
            const Ids history = memory_.fetch(args_.step.history, static_cast<std::size_t>(rows_ * kCapacity));
            for (std::int64_t source = 0; source < kSources; ++source) check_records(source, number);
            check_rows(kPrefilled + number + 1, history);
        }
    }

private:
    Ids suppressed() const { return {given_.banned, given_.banned + 1}; }

    void make_candidates() {
        values_.clear();
        ids_.clear();
        for (std::int64_t m = 0; m < rows_; ++m) {
            std::vector<float> row = random_scores(static_cast<std::size_t>(given_.k), 1.0f, generator_);
            if (given_.ties) std::ranges::for_each(row, [](float& value) { value = std::round(value); });
            std::ranges::sort(row, std::greater{});
            Ids tokens(static_cast<std::size_t>(given_.k + 5));
            std::iota(tokens.begin(), tokens.end(), 0);
            std::ranges::shuffle(tokens, generator_);
            tokens.resize(static_cast<std::size_t>(given_.k));
            values_.insert(values_.end(), row.begin(), row.end());
            ids_.insert(ids_.end(), tokens.begin(), tokens.end());
        }
        sums_ = random_scores(static_cast<std::size_t>(rows_), 2.0f, generator_);
    }

    // The best continuations of a source, by sorting them all.
    std::vector<Continuation> expected(std::int64_t source) const {
        std::vector<Continuation> all;
        for (std::int64_t m = source * given_.beams; m < (source + 1) * given_.beams; ++m) {
            const auto beam = static_cast<std::int32_t>(m - source * given_.beams);
            const auto& running = sources_[static_cast<std::size_t>(source)].running()[static_cast<std::size_t>(beam)];
            std::int64_t there = 0;
            for (std::int64_t i = m * given_.k; i < (m + 1) * given_.k && there < given_.candidates; ++i) {
                const std::int32_t token = ids_[static_cast<std::size_t>(i)];
                if (token == given_.banned || token == given_.banned + 1) continue;
                ++there;
                const float log_prob = values_[static_cast<std::size_t>(i)] - sums_[static_cast<std::size_t>(m)];
                all.push_back({log_prob + running.score, beam, token, log_prob});
            }
        }
        std::ranges::sort(all, [](const Continuation& a, const Continuation& b) {
            return std::tuple(-a.score, a.parent, a.token) < std::tuple(-b.score, b.parent, b.token);
        });
        all.resize(std::min(all.size(), static_cast<std::size_t>(given_.candidates)));
        return all;
    }

    void check_records(std::int64_t source, std::int64_t number) {
        const std::vector<Continuation> all = expected(source);
        const BeamRecord* found = args_.records + (number % kStepRing * kSources + source) * given_.candidates;
        for (std::size_t i = 0; i < all.size(); ++i) {
            CHECK(found[i].score == all[i].score && found[i].parent == all[i].parent);
            CHECK(found[i].token == all[i].token && found[i].log_prob == all[i].log_prob);
        }
        sources_[static_cast<std::size_t>(source)].update(all);
    }

    // What the rows go on with, and their histories up to `position`, where their next token goes.
    void check_rows(std::int64_t position, const Ids& history) {
        const Ids tokens = memory_.fetch(args_.step.tokens, static_cast<std::size_t>(rows_));
        const std::vector<float> scores = memory_.fetch(args_.scores, static_cast<std::size_t>(rows_));
        std::vector<Ids> moved;
        for (std::int64_t m = 0; m < rows_; ++m) {
            const auto& running = sources_[static_cast<std::size_t>(m / given_.beams)]
                                      .running()[static_cast<std::size_t>(m % given_.beams)];
            CHECK_EQUAL(tokens[static_cast<std::size_t>(m)], running.tokens.back());
            CHECK_EQUAL(scores[static_cast<std::size_t>(m)], running.score);
            moved.push_back(slots_[static_cast<std::size_t>(m / given_.beams * given_.beams + running.parent)]);
            moved.back()[static_cast<std::size_t>(position)] = static_cast<std::int32_t>(m);
            const auto begin = history.begin() + m * kCapacity;
            CHECK(std::equal(begin, begin + position + 1, moved.back().begin()));
        }
        slots_ = std::move(moved);
    }

    BeamCase given_;
    std::int64_t rows_;
    DeviceMemory memory_;
    std::mt19937 generator_{9};
    Ids ends_{2};
    std::vector<BeamHypotheses> sources_;
    std::vector<Ids> slots_;
    TakeBeamsArgs args_;
    std::vector<float> values_, sums_;
    Ids ids_;
};

void check_beams(const BeamCase& given) { BeamTrial(given).check(); }

}  // namespace

TEST(beams_are_the_hosts_step_after_step) {
    check_beams({.beams = 2, .k = 6, .candidates = 4, .banned = 3, .limit = 6, .ties = false});
    check_beams({.beams = 4, .k = 10, .candidates = 8, .banned = 0, .limit = 7, .ties = true});
    check_beams({.beams = 5, .k = 12, .candidates = 10, .banned = 4, .limit = 9, .ties = true});
    check_beams({.beams = 20, .k = 45, .candidates = 40, .banned = 9, .limit = 3, .ties = true});
}

TEST(a_row_at_the_end_of_its_slot_stays_there) {
    DeviceMemory memory;
    const StepRows step{.rows = 1,
                        .capacity = 5,
                        .tokens = memory.upload(Ids{1}),
                        .positions = memory.upload(Ids{4}),
                        .cache_rows = memory.upload(Ids{14}),
                        .lengths = memory.upload(Ids{5}),
                        .history = nullptr,
                        .generated = memory.upload(Ids{6})};
    auto* records = static_cast<TokenRecord*>(memory.backend().mailbox(kStepRing * sizeof(TokenRecord)));
    memory.backend().take_tokens({.step = step,
                                  .values = memory.matrix({3.0f, 2.0f, 1.0f}, 1),
                                  .ids = memory.upload(Ids{8, 7, 9}),
                                  .log_sum_exp = memory.upload(std::vector<float>{4.0f}),
                                  .banned = {memory.upload(Ids{8}), memory.upload(Ids{7}), 1, 1, 7},
                                  .logits = {},
                                  .history = {},
                                  .records = records});
    CHECK_EQUAL(memory.fetch(step.tokens, 1)[0], 9);
    CHECK_EQUAL(memory.fetch(step.positions, 1)[0], 4);
    CHECK_EQUAL(memory.fetch(step.cache_rows, 1)[0], 14);
    CHECK_EQUAL(memory.fetch(step.lengths, 1)[0], 5);
    CHECK_EQUAL(memory.fetch(step.generated, 1)[0], 7);
    const TokenRecord& record = records[6 % kStepRing];
    CHECK(record.token == 9 && record.logit == 1.0f && record.log_sum_exp == 4.0f);
}
