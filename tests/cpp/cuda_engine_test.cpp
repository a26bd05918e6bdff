// The engine on the emulated GPU: what its decode loop costs, and that sessions do not meet.
#include "cuda_engine.h"

#include <cmath>
#include <cstdlib>
#include <map>
#include <thread>

#include "decode/logits_reader.h"
#include "runtime/backend_library.h"

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

// The second token is asked for together with those that run ahead: one step as it is, and graphs of it. From then on a
// step is a graph, until all have been asked for.
void check_steps(const Engine& engine, const std::vector<Input>& sources, const GenerationOptions& options) {
    constexpr std::uint64_t kAhead = kStepRing;
    const std::uint64_t tokens = static_cast<std::uint64_t>(options.max_new_tokens);
    const auto session = engine.start(sources, options, {});
    session->step();
    const Cost first = cost_of_step(engine, *session);
    CHECK_EQUAL(first.graphs, kAhead - 1);
    CHECK_EQUAL(first.kernels % kAhead, std::uint64_t{0});
    CHECK_EQUAL(first.reported, static_cast<std::int64_t>(first.kernels));
    for (std::uint64_t token = 3; token <= tokens; ++token) {
        REQUIRE(!session->done());
        const Cost cost = cost_of_step(engine, *session);
        CHECK_EQUAL(cost.allocations, std::uint64_t{0});
        CHECK_EQUAL(cost.graphs, std::uint64_t{token + kAhead - 1 <= tokens ? 1u : 0u});
        CHECK_EQUAL(cost.kernels, cost.graphs * first.kernels / kAhead);
        CHECK_EQUAL(cost.reported, static_cast<std::int64_t>(cost.kernels));
    }
    CHECK(session->done());
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

// Each launch is a microsecond or more, in which the weights of a layer could be read. LRENGINE_CUDA_FUSE=0 shows what
// halves of their own would cost.
TEST(a_layer_of_a_step_is_at_most_six_launches) {
    struct Family {
        const char* name;
        std::uint64_t together, apart;
    };
    const Family families[] = {
        {"post", 3 * 6 + 5, 3 * 10 + 8}, {"published", 3 * 6 + 5, 3 * 10 + 8}, {"llm", 2 * 4, 2 * 6}};
    for (const Family& family : families) {
        const FreshDevice fresh;
        tiny::Directory directory;
        const bool llm = family.name == std::string("llm");
        llm ? tiny::write_fusion(directory, 0, 8) : tiny::write_swcm(directory, {.norm_style = family.name});
        for (const bool together : {true, false}) {
            setenv("LRENGINE_CUDA_FUSE", together ? "1" : "0", 1);
            const std::shared_ptr<Engine> engine = open(directory);
            for (const std::int64_t rows : {1, 4, 16}) {
                const auto session = engine->start(inputs({9}, 3), rows == 1 ? greedy(6) : beams(6, rows), {});
                session->step();
                const Cost cost = cost_of_step(*engine, *session);  // of all the steps that run ahead
                CHECK_EQUAL(cost.kernels % kStepRing, std::uint64_t{0});
                // The embedding; the norm that is left to the end (published: at the beginning); the two of
                // project_top_k(), three more for lists as long as those of 16 beams; what is taken of the lists.
                const std::uint64_t around = rows == 16 ? 8 : 5;
                CHECK_EQUAL(cost.kernels / kStepRing - around, together ? family.together : family.apart);
            }
        }
        unsetenv("LRENGINE_CUDA_FUSE");
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

namespace {

// A state of 40 rows for one source, stepped by hand.
class Stepper {
public:
    Stepper(const tiny::Directory& directory, std::shared_ptr<Backend> backend)
        : model_(load_model(directory.path(), std::move(backend), std::nullopt)) {
        const Ids source = tiny::some_ids(9, 1), forced{0};
        state_ = model_->generator()->begin(tiny::one(source, {}, forced), kRows, 12);
        reader_ = std::make_unique<LogitsReader>(*state_, kRows, tiny::kVocab, 2, false);
        state_->prefill({});
        length_ = static_cast<std::int32_t>(state_->prefill_length(0));
    }

    // The likeliest token of each of the first `rows` rows, which are fed different tokens and read the first's past.
    Ids step(std::size_t rows) {
        Ids tokens, slots;
        for (std::int32_t row = 0; row < static_cast<std::int32_t>(rows); ++row) {
            tokens.push_back(3 + row);
            slots.push_back(row);
        }
        const Ids sources(rows, 0), lengths(rows, length_++);
        const Ids history(rows * static_cast<std::size_t>(state_->capacity()), 0);
        state_->step({tokens, slots, sources, lengths, history});
        reader_->read(static_cast<std::int64_t>(rows));
        Ids likeliest;
        for (std::size_t row = 0; row < rows; ++row) {
            likeliest.push_back(reader_->ids(static_cast<std::int64_t>(row))[0]);
        }
        return likeliest;
    }

private:
    static constexpr std::int64_t kRows = 40;
    std::unique_ptr<Model> model_;
    std::unique_ptr<DecodeState> state_;
    std::unique_ptr<LogitsReader> reader_;
    std::int32_t length_ = 0;
};

}  // namespace

TEST(steps_are_recorded_anew_when_the_memory_of_ops_grew) {
    const FreshDevice fresh;
    tiny::Directory directory;
    tiny::write_swcm(directory);
    {
        const std::shared_ptr<Backend> backend = open_cuda("cuda");
        Stepper cuda(directory, backend), cpu(directory, make_cpu_backend(1));
        for (int step = 0; step < 3; ++step) CHECK(cuda.step(1) == cpu.step(1));
        CHECK_EQUAL(emulation::counters().graph_launches, std::uint64_t{2});
        CHECK(cuda.step(40) == cpu.step(40));
        CHECK_ERROR(backend->allocate(std::size_t{1} << 40), ErrorCode::kOutOfMemory, "");  // no spare memory is left
        for (const std::size_t rows : {1, 1, 40, 1}) CHECK(cuda.step(rows) == cpu.step(rows));
    }
    CHECK(!emulation::last_report().has_value());
    CHECK_EQUAL(alive(), std::size_t{0});
}

TEST(a_thread_may_wait_and_allocate_while_another_records) {
    const FreshDevice fresh;
    const std::shared_ptr<Backend> recording = open_cuda("cuda"), other = recording->fork();
    std::string error;
    const auto elsewhere = [&] {
        try {
            void* memory = other->allocate(std::size_t{3} << 20);
            float value = 1.0f;
            other->copy_to_device(memory, &value, sizeof value);
            other->copy_to_host(&value, memory, sizeof value);
            other->deallocate(memory);
        } catch (const std::exception& caught) {
            error = caught.what();
        }
    };
    recording->repeat(1, [] {});
    recording->repeat(1, [&] { std::thread(elsewhere).join(); });
    CHECK_EQUAL(error, "");
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

// Keys and values of a source with those of its target: both of few rows, one of few and one of many, both of many.
TEST(tied_models_get_the_cpus_scores) {
    for (const char* style : {"post", "published"}) {
        const FreshDevice fresh;
        tiny::Directory directory;
        tiny::write_swcm(directory, {.norm_style = style, .sharing = "tied"});
        for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
            const auto engine = [&](const char* device) {
                return Engine::load(directory.path(), {.device = device, .dtype = dtype, .threads = 1, .log = {}});
            };
            const auto cpu = engine("cpu"), cuda = engine("cuda");
            const auto check = [&](std::size_t source, std::size_t target) {
                const std::vector<Input> sources = inputs({source}, 5);
                const std::vector<Ids> targets{tiny::some_ids(target, 6)};
                const auto expected = cpu->score(sources, targets)[0], found = cuda->score(sources, targets)[0];
                REQUIRE(found.size() == expected.size());
                const float allowed = dtype == DType::kFloat32 ? 1e-4f : 0.1f;
                for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - expected[i]) < allowed);
            };
            check(9, 5);
            check(1, 1);
            check(20, 5);
            check(20, 22);
        }
    }
}

// Products of few rows that read one weight read it once.
TEST(a_shared_weight_is_read_once) {
    constexpr std::int64_t kOutputs = 2048, kInputs = 512;
    constexpr std::uint64_t kWeightBytes = 2 * kOutputs * kInputs;
    const FreshDevice fresh;
    const std::unique_ptr<Backend> backend = open_cuda("cuda");
    Arena arena(*backend);
    const Matrix weights = arena.matrix(2 * kOutputs, kInputs, DType::kBFloat16);
    const Matrix x = arena.matrix(3, kInputs, DType::kBFloat16), out = arena.matrix(3, kOutputs, DType::kBFloat16);
    const auto fill = [&](const Matrix& matrix) {
        const std::vector<std::uint16_t> ones(static_cast<std::size_t>(matrix.rows * matrix.cols), 0x3f80);
        backend->copy_to_device(matrix.data, ones.data(), 2 * ones.size());
    };
    fill(weights);
    fill(x);
    const auto bytes_read = [&](std::int64_t second_weight) {
        const auto weight = [&](std::int64_t i) {
            return Weight{weights.slice(i * kOutputs, 0).data, DType::kBFloat16, kOutputs, kInputs, nullptr};
        };
        const LinearArgs products[] = {{x.slice(0, 2), weight(0), {}, {}, out.slice(0, 2)},
                                       {x.slice(2, 1), weight(second_weight), {}, {}, out.slice(2, 1)}};
        const std::uint64_t before = emulation::counters().bytes_read;
        backend->linear(products);
        std::vector<std::uint16_t> found(3 * kOutputs);
        backend->copy_to_host(found.data(), out.data, 2 * found.size());
        CHECK(found == std::vector<std::uint16_t>(3 * kOutputs, 0x4400));  // 512
        return emulation::counters().bytes_read - before;
    };
    const std::uint64_t shared = bytes_read(0), separate = bytes_read(1);
    CHECK(shared >= kWeightBytes && shared < kWeightBytes + kWeightBytes / 2);
    CHECK(separate >= 2 * kWeightBytes);
}

namespace {

// Fused tokens of one source on a device whose second-level cache holds `states` states of it twice.
std::vector<float> fused(const tiny::Directory& directory, const Ids& source, int states) {
    constexpr int kStateBytes = static_cast<int>(tiny::kWidth * sizeof(float));
    const FreshDevice fresh;
    emulation::DeviceSettings settings;
    settings.l2_cache_bytes = 2 * states * static_cast<int>(source.size()) * kStateBytes;
    emulation::set_device(settings);
    return open(directory)->encode({source}, EncodeOutput::kFused)[0];
}

}  // namespace

TEST(layers_are_mixed_some_at_a_time_where_the_cache_is_small) {
    tiny::Directory global, transformer;
    global.vector("mixer.layer_logits", 9);
    global.vector("mixer.temperature", 1);
    global.set("mixer.layer_logits", {0.0f, 1e-4f, 2e-3f, 0.0f, 3e-3f, 1e-3f, 0.0f, 2e-3f, 1e-3f});
    global.set("mixer.temperature", {1e-5f});
    tiny::write_classifier(global, R"("mixer": {"type": "global"})", 9);
    tiny::write_classifier(transformer, tiny::transformer_mixer(transformer, 9), 9);
    const Ids source = tiny::some_ids(11, 1);
    for (const tiny::Directory* directory : {&global, &transformer}) {
        const auto expected = open(*directory, "cpu")->encode({source}, EncodeOutput::kFused)[0];
        for (const int states : {0, 1, 4, 100}) {
            const auto found = fused(*directory, source, states);
            REQUIRE(found.size() == expected.size());
            for (std::size_t i = 0; i < found.size(); ++i) CHECK(std::abs(found[i] - expected[i]) < 2e-5f);
        }
    }
}

TEST(spare_memory_is_at_most_an_eighth_of_the_devices) {
    const FreshDevice fresh;
    emulation::set_device({.memory_bytes = std::size_t{64} << 20});
    const std::shared_ptr<Backend> backend = open_cuda("cuda");
    const std::size_t before = emulation::counters().bytes_alive;
    for (std::size_t size = 1; size <= 6; ++size) backend->deallocate(backend->allocate(size << 20));
    CHECK(emulation::counters().bytes_alive <= before + (std::size_t{8} << 20));
    const std::size_t made = allocations();
    backend->deallocate(backend->allocate(std::size_t{6} << 20));  // the last that came is still there
    CHECK_EQUAL(allocations(), made);
    backend->deallocate(backend->allocate(std::size_t{9} << 20));
    CHECK(emulation::counters().bytes_alive <= before + (std::size_t{8} << 20));
}
