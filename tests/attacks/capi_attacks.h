// What the attacks through the C interface share: a status and a message that must come, and an engine that must answer
// as before once they have.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.h"

namespace capi_attacks {

// `status` must be `expected`, and the message hold every one of `words`.
inline void check_refused(lrengine_status status, lrengine_status expected, std::initializer_list<std::string> words,
                          const char* file, int line) {
    const std::string said = lrengine_last_error();
    if (status != expected) {
        harness::report(file, line, std::string("status ") + lrengine_status_name(status) + ": " + said);
        return;
    }
    for (const std::string& word : words) {
        if (said.find(word) == std::string::npos) harness::report(file, line, "no \"" + word + "\" in: " + said);
    }
}

#define CHECK_REFUSED(call, expected, ...) \
    capi_attacks::check_refused(call, expected, {__VA_ARGS__}, __FILE__, __LINE__)

class Engine {
public:
    explicit Engine(const std::string& directory) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 1;
        status_ = lrengine_open(directory.c_str(), &options, &engine_);
    }
    ~Engine() { lrengine_close(engine_); }
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    lrengine_status status() const { return status_; }
    // Of opening and, when that went well, of the search for NaN and Inf that may outlast it.
    lrengine_status whole_status() const {
        return status_ == LRENGINE_OK ? lrengine_check_weights(engine_, nullptr) : status_;
    }
    const lrengine_engine* get() const { return engine_; }

    // Greedy tokens of a source that nothing is wrong with; empty where there are none.
    std::vector<std::int32_t> answer() const {
        const std::vector<std::int32_t> source = {5, 6, 7};
        lrengine_input input = LRENGINE_INPUT_INIT;
        input.source.ids = source.data();
        input.source.id_count = source.size();
        lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
        options.max_new_tokens = 4;
        lrengine_generations* answers = nullptr;
        std::vector<std::int32_t> tokens;
        if (lrengine_generate(engine_, &input, 1, &options, nullptr, &answers) == LRENGINE_OK) {
            lrengine_generation best = LRENGINE_GENERATION_INIT;
            lrengine_generations_get(answers, 0, 0, &best);
            tokens.assign(best.tokens, best.tokens + best.token_count);
        }
        lrengine_generations_free(answers);
        return tokens;
    }

private:
    lrengine_engine* engine_ = nullptr;
    lrengine_status status_;
};

}  // namespace capi_attacks
