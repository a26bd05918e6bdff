// Engines on the emulated GPU for tests: one device, fresh for each test, and the same model on the CPU beside it.
//
// ctest sets LRENGINE_CUDA_LIBRARY to the emulated backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "cuda/emulation/emulation.h"
#include "harness.h"
#include "runtime/engine.h"
#include "tiny_models.h"

namespace cuda_engine {

using namespace lrengine;

// The device as it comes, before and after a test.
struct FreshDevice {
    FreshDevice() { emulation::reset(); }
    ~FreshDevice() { emulation::reset(); }
};

inline std::shared_ptr<Engine> open(const tiny::Directory& directory, const std::string& device = "cuda") {
    return Engine::load(directory.path(), {.device = device, .dtype = {}, .threads = 1, .log = {}});
}

inline Input input(const Ids& source, const Ids& prefix = {}) { return {source, {}, prefix}; }

// Sources of the lengths given, of different ids.
inline std::vector<Input> inputs(const std::vector<std::size_t>& lengths, unsigned seed = 1) {
    std::vector<Input> made;
    for (const std::size_t length : lengths) made.push_back(input(tiny::some_ids(length, seed++)));
    return made;
}

inline std::vector<Ids> tokens_of(const Session& session) {
    std::vector<Ids> tokens;
    for (const auto& answers : session.results()) {
        for (const Hypothesis& answer : answers) tokens.push_back(answer.tokens);
    }
    return tokens;
}

inline std::vector<Ids> generate(const Engine& engine, const std::vector<Input>& inputs,
                                 const GenerationOptions& options, const StopHook& stop = {}) {
    const std::unique_ptr<Session> session = engine.start(inputs, options, stop);
    while (!session->done()) session->step();
    return tokens_of(*session);
}

// The likeliest tokens, chosen on the device.
inline GenerationOptions greedy(std::int64_t tokens) {
    GenerationOptions options;
    options.max_new_tokens = tokens;
    return options;
}

// Exactly as many tokens, chosen on the host from whole rows of logits.
inline GenerationOptions processed(std::int64_t tokens) {
    GenerationOptions options = greedy(tokens);
    options.min_new_tokens = tokens;
    return options;
}

inline GenerationOptions beams(std::int64_t tokens, std::int64_t count) {
    GenerationOptions options = processed(tokens);
    options.num_beams = count;
    return options;
}

inline GenerationOptions sampling(std::int64_t tokens) {
    GenerationOptions options = processed(tokens);
    options.do_sample = true;
    options.top_k = 7;
    options.seed = 5;
    return options;
}

inline std::size_t allocations() { return emulation::counters().allocations; }
inline std::size_t alive() { return emulation::counters().allocations_alive; }

}  // namespace cuda_engine
