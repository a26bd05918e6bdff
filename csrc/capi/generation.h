// A request that generates: its search, what its tokens become as text, and the callback that hears of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capi/limits.h"
#include "capi/requests.h"
#include "text/target_text.h"

namespace lrengine::capi {

// One thread at a time, but for cancel().
class Generation {
public:
    Generation(std::shared_ptr<const OpenEngine> open, const lrengine_input* inputs, std::size_t count,
               const lrengine_generate_options* options, Interruption interruption = {});
    Generation(const Generation&) = delete;  // the search calls back into this object
    Generation& operator=(const Generation&) = delete;

    bool done() const { return session_->done(); }
    // One token a row, and the callback for each whose text is certain. A request that is done computes nothing, but
    // tells what was waiting. Throws Interrupted when the callback asks for the end; the request is done then.
    void step();
    void cancel() { session_->cancel(); }
    // The caller frees it.
    lrengine_generations* results() const;

private:
    // A row of an answer: how much of it the callback has heard.
    struct Heard {
        std::size_t tokens = 0;
        std::string text;
    };

    void report();
    // Whether the callback wants more.
    bool report_row(std::size_t input, std::size_t sequence, const Hypothesis& answer, bool finished);

    std::shared_ptr<const OpenEngine> open_;
    GenerateRequest request_;
    std::vector<TargetText> texts_;  // one an input; none without a tokenizer
    std::unique_ptr<Session> session_;
    std::vector<std::vector<Heard>> heard_;
    bool refused_ = false;  // the callback wants no more
};

}  // namespace lrengine::capi

struct lrengine_session {
    lrengine::capi::Generation generation;
};
