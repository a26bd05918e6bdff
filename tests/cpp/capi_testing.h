// What the tests of the C interface share: an engine that closes itself, inputs, answers, failures with their messages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.h"

namespace capi_testing {

using capi_models::ids;
using capi_models::Model;

struct Opened {
    explicit Opened(const Model& model, std::int32_t threads = 1) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = threads;
        status = lrengine_open(model.path().c_str(), &options, &engine);
    }
    ~Opened() { lrengine_close(engine); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

    lrengine_engine* engine = nullptr;
    lrengine_status status = LRENGINE_INTERNAL;
};

inline lrengine_piece piece(const std::vector<std::int32_t>& values) {
    lrengine_piece made = LRENGINE_PIECE_INIT;
    made.ids = values.data();
    made.id_count = values.size();
    return made;
}

inline lrengine_input source(const std::vector<std::int32_t>& values) {
    lrengine_input input = LRENGINE_INPUT_INIT;
    input.source = piece(values);
    return input;
}

inline lrengine_generate_options most(std::int64_t tokens) {
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = tokens;
    return options;
}

inline bool last_error_has(const char* text) {
    return std::string(lrengine_last_error()).find(text) != std::string::npos;
}

inline std::vector<std::int32_t> tokens_of(const lrengine_generation& generation) {
    return {generation.tokens, generation.tokens + generation.token_count};
}

inline lrengine_generation get(const lrengine_generations* generations, std::size_t input, std::size_t sequence) {
    lrengine_generation generation = LRENGINE_GENERATION_INIT;
    CHECK_EQUAL(lrengine_generations_get(generations, input, sequence, &generation), LRENGINE_OK);
    return generation;
}

}  // namespace capi_testing

// The call must return this status, and lrengine_last_error() contain `fragment`.
#define CHECK_FAILS(call, expected, fragment)                                                                    \
    do {                                                                                                         \
        CHECK_EQUAL(lrengine_status{call}, lrengine_status{expected});                                           \
        if (!capi_testing::last_error_has(fragment)) harness::report(__FILE__, __LINE__, lrengine_last_error()); \
    } while (false)
