// Decoding on the emulated GPU, which runs ahead of the host: every decision is the CPU engine's.
#include <limits>

#include "cuda_engine.h"
#include "decode/search.h"

using namespace cuda_engine;

namespace {

// Models of both families on the device and, as the reference, on the CPU.
struct Pair {
    explicit Pair(bool fusion = false) {
        fusion ? tiny::write_fusion(directory) : tiny::write_swcm(directory);
        cpu = open(directory, "cpu");
        cuda = open(directory);
    }
    FreshDevice fresh;
    tiny::Directory directory;
    std::shared_ptr<Engine> cpu, cuda;
};

std::vector<Hypothesis> answers(const Engine& engine, const std::vector<Input>& sources,
                                const GenerationOptions& options, const StopHook& stop = {}) {
    const std::unique_ptr<Session> session = engine.start(sources, options, stop);
    while (!session->done()) session->step();
    std::vector<Hypothesis> all;
    for (const auto& rows : session->results()) all.insert(all.end(), rows.begin(), rows.end());
    return all;
}

void check_same(const Pair& pair, const std::vector<Input>& sources, const GenerationOptions& options,
                const StopHook& stop = {}) {
    const auto found = answers(*pair.cuda, sources, options, stop),
               expected = answers(*pair.cpu, sources, options, stop);
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i].tokens == expected[i].tokens);
        CHECK(found[i].finish_reason == expected[i].finish_reason);
        REQUIRE(found[i].token_log_probs.size() == expected[i].token_log_probs.size());
        CHECK(std::abs(found[i].score() - expected[i].score()) < 1e-3);
    }
}

using Change = std::function<void(GenerationOptions&)>;

// What greedy, sampled and beam rows may be asked for beside.
const std::vector<std::pair<std::string, Change>>& processors() {
    static const std::vector<std::pair<std::string, Change>> all{
        {"plain", [](GenerationOptions&) {}},
        {"suppressed", [](GenerationOptions& options) { options.suppress_tokens = {3, 17, 30, 2}; }},
        {"at least", [](GenerationOptions& options) { options.min_new_tokens = 5; }},
        {"repetition", [](GenerationOptions& options) { options.repetition_penalty = 1.7; }},
        {"n-grams", [](GenerationOptions& options) { options.no_repeat_ngram_size = 2; }},
        {"n-grams longer than any row",
         [](GenerationOptions& options) { options.no_repeat_ngram_size = INT32_MAX - 3; }},
        {"n-grams beyond int32",
         [](GenerationOptions& options) { options.no_repeat_ngram_size = (INT64_C(1) << 32) + 2; }},
        {"all", [](GenerationOptions& options) {
             options = {.max_new_tokens = options.max_new_tokens,
                        .min_new_tokens = 4,
                        .num_beams = options.num_beams,
                        .num_return_sequences = options.num_return_sequences,
                        .repetition_penalty = 0.6,
                        .no_repeat_ngram_size = 1,
                        .do_sample = options.do_sample,
                        .seed = options.seed,
                        .suppress_tokens = {3}};
         }}};
    return all;
}

const std::vector<Input>& several() {
    static const std::vector<Input> made = inputs({9, 4, 12}, 20);
    return made;
}

}  // namespace

TEST(greedy_rows_ahead_are_the_cpus_with_every_processor) {
    for (const bool fusion : {false, true}) {
        const Pair pair(fusion);
        for (const auto& [name, change] : processors()) {
            GenerationOptions options = greedy(9);
            change(options);
            check_same(pair, several(), options);
        }
    }
}

TEST(beams_ahead_are_the_cpus_with_every_processor_and_option) {
    const Pair pair;
    for (const std::int64_t count : {2, 3, 5}) {
        for (const auto& [name, change] : processors()) {
            GenerationOptions options = greedy(8);
            options.num_beams = options.num_return_sequences = count;
            change(options);
            check_same(pair, several(), options);
        }
    }
    GenerationOptions options = greedy(12);
    options.num_beams = 4;
    for (const double penalty : {-0.5, 0.0, 2.0}) {
        for (const EarlyStopping early : {EarlyStopping::kHeuristic, EarlyStopping::kFirst, EarlyStopping::kNever}) {
            options.length_penalty = penalty;
            options.early_stopping = early;
            check_same(pair, several(), options);
        }
    }
}

TEST(samples_ahead_are_the_cpus_with_every_filter) {
    const Pair pair;
    for (const std::uint64_t seed : {1, 2, 3}) {
        for (const std::int64_t top_k : {0, 1, 7, 40}) {
            for (const double top_p : {1.0, 0.6}) {
                GenerationOptions options = greedy(6);
                options.do_sample = true;
                options.seed = seed;
                options.temperature = seed == 2 ? 0.7 : 1.5;
                options.top_k = top_k;
                options.top_p = top_p;
                options.num_return_sequences = 2;
                check_same(pair, {several()[0]}, options);
            }
        }
    }
    for (const auto& [name, change] : processors()) {
        GenerationOptions options = sampling(6);
        change(options);
        check_same(pair, several(), options);
    }
}

namespace {

// Ends source b when it has 2 + 3 b tokens.
bool ends_in_turn(std::int64_t source, std::span<const std::int32_t> generated) {
    return static_cast<std::int64_t>(generated.size()) >= 2 + 3 * source;
}

}  // namespace

TEST(rows_that_ended_leave_the_batch_when_half_of_them_have) {
    const Pair pair;
    const std::vector<Input> sources = inputs({9, 4, 12, 3, 7}, 20);
    for (const bool sample : {false, true}) {
        GenerationOptions options = sample ? sampling(15) : processed(15);
        check_same(pair, sources, options, ends_in_turn);
        if (sample) options.num_return_sequences = 2;
        check_same(pair, sources, options, ends_in_turn);
    }
    const auto session = pair.cuda->start(sources, processed(15), ends_in_turn);
    std::vector<std::uint64_t> launches;
    while (!session->done()) {
        const std::uint64_t before = emulation::counters().bytes_read;
        session->step();
        launches.push_back(emulation::counters().bytes_read - before);
    }
    CHECK_EQUAL(launches.size(), std::size_t{14});
    // One row of the last two reads less of its cache than five rows before, and what is not asked for reads nothing.
    CHECK(launches[10] < launches[4]);
}

TEST(rows_end_where_the_models_positions_do) {
    const Pair pair;  // 37 positions
    std::vector<Input> sources = inputs({5, 3}, 4);
    sources[0].prefix = tiny::some_ids(30, 5);
    for (GenerationOptions options : {processed(60), beams(60, 3)}) {
        options.min_new_tokens = 0;
        options.suppress_tokens = {2};
        const auto found = answers(*pair.cuda, sources, options);
        CHECK(found[0].tokens.size() < found[1].tokens.size());
        check_same(pair, sources, options);
    }
}

TEST(a_token_is_a_step_though_others_run_ahead) {
    const Pair pair;
    const auto cuda = pair.cuda->start(several(), greedy(8), {}), cpu = pair.cpu->start(several(), greedy(8), {});
    while (!cpu->done()) {
        REQUIRE(!cuda->done());
        cuda->step();
        cpu->step();
        CHECK(tokens_of(*cuda) == tokens_of(*cpu));
    }
    CHECK(cuda->done());
}

TEST(a_search_may_be_cancelled_while_steps_run_ahead) {
    Pair pair;
    for (const GenerationOptions& options : {processed(12), beams(12, 3), sampling(12)}) {
        const auto session = pair.cuda->start(several(), options, {}), same = pair.cpu->start(several(), options, {});
        for (int step = 0; step < 4; ++step) {
            session->step();
            same->step();
        }
        session->cancel();
        session->step();
        CHECK(tokens_of(*session) == tokens_of(*same));
        CHECK(session->results()[0][0].finish_reason == FinishReason::kCancelled);
    }
    CHECK(generate(*pair.cuda, several(), greedy(6)) == generate(*pair.cpu, several(), greedy(6)));
    pair.cuda.reset();
    CHECK_EQUAL(alive(), std::size_t{0});
}

TEST(requests_of_one_shape_are_recorded_once) {
    for (const bool fusion : {false, true}) {
        const Pair pair(fusion);
        for (GenerationOptions options : {processed(9), beams(9, 3), sampling(9), greedy(9)}) {
            options.min_new_tokens = 9;
            generate(*pair.cuda, inputs({9, 4}, 1), options);
            const emulation::Counters before = emulation::counters();
            options.seed = 77;
            CHECK(generate(*pair.cuda, inputs({8, 6}, 5), options) == generate(*pair.cpu, inputs({8, 6}, 5), options));
            CHECK_EQUAL(emulation::counters().graphs_made, before.graphs_made);
            CHECK(emulation::counters().graph_launches >= before.graph_launches + 7);
            CHECK_EQUAL(emulation::counters().allocations, before.allocations);
        }
    }
}

TEST(recordings_of_an_engine_are_not_run_for_another) {
    const FreshDevice fresh;
    tiny::Directory first, second;
    tiny::write_swcm(first);
    tiny::write_swcm(second);
    std::vector<float> other = second.values("encoder.embeddings.word_embeddings.weight");
    for (float& value : other) value = -value;
    second.set("encoder.embeddings.word_embeddings.weight", other);
    second.rewrite();
    const std::shared_ptr<Engine> engines[] = {open(first), open(second)};  // on one device, with the same streams
    for (int turn = 0; turn < 2; ++turn) {
        for (const bool is_second : {false, true}) {
            const auto cpu = open(is_second ? second : first, "cpu");
            CHECK(generate(*engines[is_second], several(), processed(7)) == generate(*cpu, several(), processed(7)));
        }
    }
}

TEST(logits_that_are_not_finite_end_the_request_of_whoever_runs_ahead) {
    const FreshDevice fresh;
    tiny::Directory directory;
    tiny::write_swcm(directory);
    // Overflows in the sixth position of a target, which the short source does not have.
    const std::string name = "encoder.embeddings.position_embeddings.weight";
    std::vector<float> positions = directory.values(name);
    std::fill_n(positions.begin() + (2 + 5) * tiny::kWidth, tiny::kWidth, 3e38f);
    directory.set(name, positions);
    directory.rewrite();
    const auto engine = open(directory);
    for (const GenerationOptions& options : {processed(8), beams(8, 2), sampling(8)}) {
        const auto session = engine->start(inputs({3}), options, {});
        for (int step = 0; step < 4; ++step) session->step();
        CHECK_ERROR(
            {
                while (!session->done()) session->step();
            },
            ErrorCode::kModelFile, "not finite");
    }
}

TEST(a_fault_of_a_step_that_runs_ahead_is_told_and_nothing_hangs) {
    for (const std::uint64_t launch : {1, 20, 60}) {
        for (const GenerationOptions& options : {processed(12), beams(12, 2), sampling(12)}) {
            const FreshDevice fresh;
            emulation::set_fault_policy(emulation::FaultPolicy::kSticky);
            tiny::Directory directory;
            tiny::write_swcm(directory);
            const auto engine = open(directory);
            const auto session = engine->start(several(), options, {});
            for (int step = 0; step < 3; ++step) session->step();
            emulation::fail_launch(launch, cudaErrorIllegalAddress);
            CHECK_ERROR(
                {
                    while (!session->done()) session->step();
                },
                ErrorCode::kDevice, "the process must be started again");
            session->cancel();
        }
    }
}
