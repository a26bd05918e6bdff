#include "capi/generation.h"

#include <algorithm>
#include <string>
#include <utility>

#include "capi/results.h"
#include "capi/structs.h"

namespace lrengine::capi {

Generation::Generation(std::shared_ptr<const OpenEngine> open, const lrengine_input* inputs, std::size_t count,
                       const lrengine_generate_options* options, Interruption interruption)
    : open_(std::move(open)), request_(read_options(options)) {
    const std::vector<Input> typed = generation_inputs(*open_, inputs, count);
    if (!request_.stop.empty()) open_->texts.of(LRENGINE_TARGET);  // refuses where there is no text to look in
    if (const Tokenizer* writer = open_->texts.writer()) {
        for (const Input& input : typed) texts_.emplace_back(*writer, input.prefix, request_.stop);
    }
    StopHook stop;
    if (!request_.stop.empty()) {
        stop = [this](std::int64_t source, std::span<const std::int32_t> tokens) {
            return texts_[static_cast<std::size_t>(source)].stopped(tokens);
        };
    }
    session_ = open_->engine->start(typed, request_.options, std::move(stop), std::move(interruption));
}

void Generation::step() {
    if (!session_->done()) session_->step();
    if (request_.on_token != nullptr && !refused_) report();
}

void Generation::report() {
    const auto results = session_->results();
    heard_.resize(results.size());
    for (std::size_t input = 0; input < results.size(); ++input) {
        heard_[input].resize(results[input].size());
        for (std::size_t sequence = 0; sequence < results[input].size(); ++sequence) {
            const Hypothesis& answer = results[input][sequence];
            const bool finished = session_->done() || answer.finish_reason != FinishReason::kCancelled;
            if (report_row(input, sequence, answer, finished)) continue;
            refused_ = true;
            session_->cancel();
            throw Interrupted{LRENGINE_CALLBACK, "callback: on_token asked for the end of the request"};
        }
    }
}

// Tokens wait until what they add to the text can no longer change, as in lrengine/engine.py's stream().
bool Generation::report_row(std::size_t input, std::size_t sequence, const Hypothesis& answer, bool finished) {
    Heard& heard = heard_[input][sequence];
    if (heard.tokens == answer.tokens.size()) return true;
    std::string text;
    if (!texts_.empty()) {
        text = texts_[input].cut(answer.tokens);
        const bool certain = text.starts_with(heard.text) && texts_[input].certain(answer.tokens);
        if (!certain && !finished) return true;
    }
    while (heard.tokens < answer.tokens.size()) {
        const std::size_t index = heard.tokens++;
        lrengine_token token{};
        token.struct_size = sizeof(token);
        token.input = input;
        token.sequence = sequence;
        token.token = answer.tokens[index];
        token.log_prob = answer.token_log_probs[index];
        if (!texts_.empty()) {
            const bool newest = heard.tokens == answer.tokens.size();
            const std::size_t told = newest ? std::min(heard.text.size(), text.size()) : text.size();
            token.text = text.data() + told;
            token.text_bytes = text.size() - told;
            if (newest) heard.text = text;
        }
        if (request_.on_token(request_.on_token_user, &token) != 0) return false;
    }
    return true;
}

lrengine_generations* Generation::results() const { return make_generations(session_->results(), texts_); }

}  // namespace lrengine::capi

using namespace lrengine;

extern "C" {

lrengine_status lrengine_session_start(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                       const lrengine_generate_options* options, lrengine_session** session) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(session, "session");
        *session = new lrengine_session{{engine->open, inputs, count, options}};
    });
}

lrengine_status lrengine_session_step(lrengine_session* session, int32_t* done) {
    return capi::guard([&] {
        capi::require_pointer(session, "session");
        capi::require_pointer(done, "done");
        session->generation.step();
        *done = session->generation.done() ? 1 : 0;
    });
}

void lrengine_session_cancel(lrengine_session* session) {
    if (session != nullptr) session->generation.cancel();
}

lrengine_status lrengine_session_results(const lrengine_session* session, lrengine_generations** generations) {
    return capi::guard([&] {
        capi::require_pointer(session, "session");
        capi::require_pointer(generations, "generations");
        *generations = session->generation.results();
    });
}

void lrengine_session_free(lrengine_session* session) { delete session; }

lrengine_status lrengine_generate(const lrengine_engine* engine, const lrengine_input* inputs, size_t count,
                                  const lrengine_generate_options* options, const lrengine_limits* limits,
                                  lrengine_generations** generations) {
    lrengine_status ended = LRENGINE_OK;
    const lrengine_status status = capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(generations, "generations");
        const capi::Limits ends(limits);
        capi::Generation generation(engine->open, inputs, count, options, ends.interruption());
        try {
            while (!generation.done()) {
                if (const auto reached = ends.reached()) {
                    ended = capi::remember(reached->status, reached->message);
                    generation.cancel();
                }
                generation.step();
            }
        } catch (const capi::Interrupted& interrupted) {
            ended = capi::remember(interrupted.status, interrupted.message);
        }
        *generations = generation.results();
    });
    return status != LRENGINE_OK ? status : ended;
}

}  // extern "C"
