// Faults of the emulated GPU in the middle of the engine's work: memory that runs out, and kernels that fail.
#include <functional>

#include "cuda_engine.h"

using namespace cuda_engine;

namespace {

const std::vector<Input>& some_inputs() {
    static const std::vector<Input> made = inputs({5, 3}, 3);
    return made;
}

// Every kind of request, as tokens or as numbers that can be compared.
struct Request {
    std::string name;
    std::function<std::vector<float>(const Engine&)> run;
};

std::vector<float> flat(const std::vector<Ids>& rows) {
    std::vector<float> all;
    for (const Ids& row : rows) all.insert(all.end(), row.begin(), row.end());
    return all;
}

std::vector<float> flat(const std::vector<std::vector<float>>& rows) {
    std::vector<float> all;
    for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
    return all;
}

std::vector<Request> requests() {
    const auto targets = [] { return std::vector<Ids>{tiny::some_ids(2, 8, tiny::kLlmVocab), {}}; };
    return {{"greedy", [](const Engine& engine) { return flat(generate(engine, some_inputs(), greedy(4))); }},
            {"beams", [](const Engine& engine) { return flat(generate(engine, some_inputs(), beams(4, 2))); }},
            {"score", [=](const Engine& engine) { return flat(engine.score(some_inputs(), targets())); }},
            {"encode", [](const Engine& engine) {
                 return flat(engine.encode({some_inputs()[0].source}, EncodeOutput::kFused));
             }}};
}

struct Directories {
    Directories() {
        tiny::write_swcm(swcm);
        tiny::write_fusion(fusion);
    }
    tiny::Directory swcm, fusion;
    std::vector<const tiny::Directory*> all() const { return {&swcm, &fusion}; }
};

std::size_t device_bytes() {
    std::size_t free = 0, total = 0;
    REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
    return total - free;
}

// Runs with the n-th allocation failing; false when that made it fail.
bool survives(std::uint64_t n, const std::function<void()>& body) {
    emulation::fail_allocation(n);
    bool passed = false;
    try {
        body();
        passed = true;
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kOutOfMemory);
        CHECK(std::string(error.what()).find("out of memory") != std::string::npos);
    }
    emulation::fail_allocation(0);
    return passed;
}

}  // namespace

TEST(memory_that_runs_out_while_loading_is_all_given_back) {
    const Directories directories;
    for (const tiny::Directory* directory : directories.all()) {
        const FreshDevice fresh;
        open(*directory);
        const std::size_t count = allocations();
        CHECK_EQUAL(alive(), std::size_t{0});
        for (std::size_t n = 1; n <= count; ++n) {
            CHECK(!survives(n, [&] { open(*directory); }));
            CHECK_EQUAL(alive(), std::size_t{0});
        }
        CHECK(survives(count + 1, [&] { open(*directory); }));
        emulation::set_device({.memory_bytes = 128 << 10});
        CHECK_ERROR(open(*directory), ErrorCode::kOutOfMemory, "device memory, ");
        CHECK_EQUAL(alive(), std::size_t{0});
    }
}

TEST(memory_that_runs_out_in_a_request_leaves_the_engine_usable) {
    const Directories directories;
    for (const tiny::Directory* directory : directories.all()) {
        for (const Request& request : requests()) {
            const FreshDevice fresh;
            auto engine = open(*directory);
            const std::size_t loaded = allocations();
            const auto expected = request.run(*engine);
            const std::size_t count = allocations() - loaded, kept = alive();
            CHECK(count >= 2);
            std::size_t failed = 0;
            for (std::size_t n = 1; n <= count; ++n) {
                engine.reset();
                CHECK_EQUAL(alive(), std::size_t{0});
                engine = open(*directory);
                failed += !survives(n, [&] { CHECK(request.run(*engine) == expected); });
                CHECK(request.run(*engine) == expected);
                CHECK(alive() <= kept);
            }
            CHECK(failed >= 1);  // the others were saved by what could be dropped
        }
    }
}

namespace {

// False when there was no memory for the step.
bool takes_step(Session& session) {
    try {
        session.step();
        return true;
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kOutOfMemory);
        return false;
    }
}

}  // namespace

TEST(a_step_that_ran_out_of_memory_can_be_taken_again) {
    const Directories directories;
    const GenerationOptions options = beams(4, 12);
    for (const tiny::Directory* directory : directories.all()) {
        const FreshDevice fresh;
        const auto expected = generate(*open(*directory, "cpu"), some_inputs(), options);
        // The first step feeds the sources; the second is of more rows.
        for (const int done : {0, 1}) {
            const auto engine = open(*directory);
            const auto session = engine->start(some_inputs(), options, {});
            for (int step = 0; step < done; ++step) session->step();
            emulation::set_device({.memory_bytes = device_bytes()});  // others have the rest
            CHECK(!takes_step(*session));
            CHECK(!takes_step(*session));
            emulation::set_device({});
            while (!session->done()) REQUIRE(takes_step(*session));
            CHECK(tokens_of(*session) == expected);
        }
    }
}

namespace {

// Caches of 36 positions for 40 beams of each source, and the first token: much memory and little work.
std::vector<Ids> wide_request(const Engine& engine, std::size_t sources) {
    const auto session = engine.start(inputs(std::vector<std::size_t>(sources, 2)), beams(35, 40), {});
    session->step();
    return tokens_of(*session);
}

}  // namespace

TEST(spare_memory_goes_before_a_request_is_refused) {
    const Directories directories;
    const FreshDevice fresh;
    const auto engine = open(directories.swcm), reference = open(directories.swcm, "cpu");
    const auto expected = wide_request(*reference, 8);
    const std::size_t weights = device_bytes();
    wide_request(*engine, 11);
    const std::size_t full = device_bytes();
    CHECK(full > weights + (std::size_t{10} << 20));
    emulation::set_device({.memory_bytes = full});
    CHECK(wide_request(*engine, 8) == expected);
    CHECK(device_bytes() < full);  // not in the memory of the first, which is gone
    CHECK_ERROR(wide_request(*engine, 24), ErrorCode::kOutOfMemory, "device memory, ");
    CHECK(wide_request(*engine, 8) == expected);
}

namespace {

constexpr const char* kLost = "the process must be started again";

// A kernel fails at the n-th launch of `request`; then nothing works, and says so.
void check_lost(const tiny::Directory& directory, const Request& request, std::uint64_t n, cudaError_t fault) {
    const FreshDevice fresh;
    emulation::set_fault_policy(emulation::FaultPolicy::kSticky);
    {
        auto engine = open(directory);
        auto bystander = engine->start(some_inputs(), greedy(6), {});
        bystander->step();
        bystander->step();
        emulation::fail_launch(n, fault);
        CHECK_ERROR(request.run(*engine), ErrorCode::kDevice, kLost);
        CHECK(emulation::last_report().has_value());
        const std::uint64_t before = emulation::counters().kernel_launches;
        CHECK_ERROR(bystander->step(), ErrorCode::kDevice, kLost);  // would have been recorded
        for (const Request& other : requests()) CHECK_ERROR(other.run(*engine), ErrorCode::kDevice, kLost);
        CHECK_ERROR(open(directory), ErrorCode::kDevice, kLost);
        CHECK_EQUAL(emulation::counters().kernel_launches, before);
        if (n % 2 == 0) engine.reset();  // before the session, or after it
    }
    CHECK_EQUAL(alive(), std::size_t{0});
}

}  // namespace

TEST(after_a_kernel_that_failed_every_request_says_that_the_device_is_lost) {
    const Directories directories;
    for (const tiny::Directory* directory : directories.all()) {
        for (const Request& request : requests()) {
            std::uint64_t count = 0;
            {
                const FreshDevice fresh;
                const auto engine = open(*directory);
                emulation::reset_counters();
                request.run(*engine);
                count = emulation::counters().kernel_launches;
            }
            for (const std::uint64_t n : {std::uint64_t{1}, count / 2, count}) {
                check_lost(*directory, request, n,
                           n == 1       ? cudaErrorUnknown
                           : n == count ? cudaErrorLaunchFailure
                                        : cudaErrorIllegalAddress);
            }
        }
    }
}

// In steps that run ahead: each of these asks for one more graph, whose fault comes at once here, and on a GPU when its
// step is waited for.
TEST(a_kernel_that_fails_in_a_recorded_step_is_met_in_that_step) {
    const Directories directories;
    for (int step = 2; step <= 4; ++step) {
        for (const std::uint64_t n : {1, 2, 7}) {
            const FreshDevice fresh;
            emulation::set_fault_policy(emulation::FaultPolicy::kSticky);
            const auto engine = open(directories.swcm);
            const auto session = engine->start(some_inputs(), processed(12), {});
            for (int i = 0; i < step; ++i) session->step();
            const std::uint64_t graphs = emulation::counters().graph_launches;
            emulation::fail_launch(n);
            CHECK_ERROR(session->step(), ErrorCode::kDevice, kLost);
            CHECK_EQUAL(emulation::counters().graph_launches, graphs + 1);
            CHECK_ERROR(session->step(), ErrorCode::kDevice, kLost);
        }
    }
}
