// The engine on the emulated GPU: what its decode loop costs, and that sessions do not meet.
#include "cuda_engine.h"

#include <map>
#include <thread>

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

const std::map<std::string, GenerationOptions>& ways() {
    static const std::map<std::string, GenerationOptions> all{
        {"greedy", greedy(10)}, {"processed", processed(10)}, {"beams", beams(10, 3)}, {"sampling", sampling(10)}};
    return all;
}

// What one step makes the device do, by the engine's own count and by the emulation's.
struct Cost {
    std::uint64_t allocations, graphs, kernels;
    std::int64_t reported;
};

Cost cost_of_step(const Engine& engine, Session& session) {
    const emulation::Counters before = emulation::counters();
    const std::int64_t reported = engine.kernel_launches();
    session.step();
    const emulation::Counters after = emulation::counters();
    return {after.allocations - before.allocations, after.graph_launches - before.graph_launches,
            after.kernel_launches - before.kernel_launches, engine.kernel_launches() - reported};
}

void check_steps(const Engine& engine, const std::vector<Input>& sources, const GenerationOptions& options) {
    const auto session = engine.start(sources, options, {});
    session->step();
    const Cost first = cost_of_step(engine, *session);
    CHECK_EQUAL(first.graphs, std::uint64_t{0});
    CHECK_EQUAL(first.reported, static_cast<std::int64_t>(first.kernels));
    for (int step = 3; step <= 10; ++step) {
        REQUIRE(!session->done());
        const Cost cost = cost_of_step(engine, *session);
        CHECK_EQUAL(cost.allocations, std::uint64_t{0});
        CHECK_EQUAL(cost.graphs, std::uint64_t{1});
        CHECK_EQUAL(cost.kernels, first.kernels);
        CHECK_EQUAL(cost.reported, static_cast<std::int64_t>(cost.kernels));
    }
}

// Ends source b when it has 2 + 3 b tokens, so that fewer and fewer rows run.
bool ends_in_turn(std::int64_t source, std::span<const std::int32_t> generated) {
    return static_cast<std::int64_t>(generated.size()) >= 2 + 3 * source;
}

}  // namespace

TEST(a_step_is_one_graph_and_allocates_nothing) {
    for (const bool fusion : {false, true}) {
        const Pair pair(fusion);
        // One source, and two: other kernels.
        for (const auto& [name, options] : ways()) check_steps(*pair.cuda, inputs({9}, 3), options);
        check_steps(*pair.cuda, inputs({9, 4}, 3), greedy(10));
    }
}

TEST(rows_that_end_one_after_the_other_get_the_cpus_tokens) {
    for (const bool fusion : {false, true}) {
        const Pair pair(fusion);
        const std::vector<Input> sources = inputs({9, 4, 12}, 20);
        for (auto [name, options] : ways()) {
            const auto expected = generate(*pair.cpu, sources, options, ends_in_turn);
            CHECK(expected[0].size() <= 2 && expected[2].size() > 5);
            CHECK(generate(*pair.cuda, sources, options, ends_in_turn) == expected);
        }
        GenerationOptions samples = sampling(8);
        samples.num_return_sequences = 2;
        CHECK(generate(*pair.cuda, sources, samples, ends_in_turn) ==
              generate(*pair.cpu, sources, samples, ends_in_turn));
    }
}

TEST(sessions_of_several_threads_do_not_meet) {
    const Pair pair;
    constexpr unsigned kThreads = 4, kRequests = 2;
    const auto request = [](const Engine& engine, unsigned number) {
        const std::vector<Input> sources = inputs({3 + number, 5 + 3 * (number % 3)}, 100 * number);
        std::vector<Ids> answer = generate(engine, sources, number % 3 == 0 ? beams(4, 2) : greedy(4));
        for (const auto& scores : engine.score({sources[0]}, {tiny::some_ids(4, number)})) {
            answer.push_back({static_cast<std::int32_t>(scores[0] * -100.0f)});
        }
        return answer;
    };
    std::vector<std::vector<Ids>> alone, together(kThreads * kRequests);
    for (unsigned number = 0; number < kThreads * kRequests; ++number) alone.push_back(request(*pair.cuda, number));
    std::vector<std::string> errors(kThreads);
    std::vector<std::thread> threads;
    const std::int64_t before = pair.cuda->kernel_launches();
    for (unsigned thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            try {
                for (unsigned turn = 0; turn < kRequests; ++turn) {
                    const unsigned number = turn * kThreads + thread;
                    together[number] = request(*pair.cuda, number);
                }
            } catch (const std::exception& error) {
                errors[thread] = error.what();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& error : errors) CHECK_EQUAL(error, "");
    CHECK(together == alone);
    CHECK_EQUAL(pair.cuda->kernel_launches() - before, before);
}

TEST(a_session_that_is_dropped_leaves_its_memory_to_the_next) {
    Pair pair;
    const std::vector<Input> sources = inputs({9, 4}, 3);
    const auto expected = generate(*pair.cpu, sources, greedy(8));
    for (const int steps : {0, 1, 2, 4}) {
        auto session = pair.cuda->start(sources, greedy(8), {});
        for (int step = 0; step < steps; ++step) session->step();
        session->cancel();
        session->step();
        CHECK(session->done());
        session.reset();
    }
    const std::size_t before = allocations();
    CHECK(generate(*pair.cuda, sources, greedy(8)) == expected);
    CHECK_EQUAL(allocations(), before);
    pair.cuda.reset();
    CHECK_EQUAL(alive(), std::size_t{0});
}

TEST(a_session_outlives_the_callers_hold_of_its_engine) {
    Pair pair;
    const auto expected = generate(*pair.cpu, inputs({7}), greedy(6));
    auto session = pair.cuda->start(inputs({7}), greedy(6), {});
    pair.cuda.reset();
    while (!session->done()) session->step();
    CHECK(tokens_of(*session) == expected);
    session.reset();
    CHECK_EQUAL(alive(), std::size_t{0});
}
