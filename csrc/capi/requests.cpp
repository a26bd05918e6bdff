#include "capi/requests.h"

#include <cstring>
#include <string_view>

#include "capi/structs.h"
#include "core/error.h"

namespace lrengine::capi {

namespace {

bool has_text(const lrengine_piece& piece) { return piece.text != nullptr; }

std::string_view text_of(const char* text, std::size_t bytes) {
    return bytes == LRENGINE_TERMINATED ? std::string_view(text) : std::string_view(text, bytes);
}

std::string_view text_of(const lrengine_piece& piece) { return text_of(piece.text, piece.text_bytes); }

Ids ids_of(const lrengine_piece& piece, const std::string& name) {
    if (piece.ids == nullptr && piece.id_count > 0) {
        fail(ErrorCode::kInvalidArgument,
             name + ": found " + std::to_string(piece.id_count) + " ids at NULL, expected a pointer to them");
    }
    return piece.ids == nullptr ? Ids{} : Ids(piece.ids, piece.ids + piece.id_count);
}

void require_one_form(const lrengine_piece& piece, const std::string& name) {
    if (has_text(piece) && (piece.ids != nullptr || piece.id_count > 0)) {
        fail(ErrorCode::kInvalidArgument, name + ": found ids and text, expected one of them");
    }
}

bool is_empty(const lrengine_piece& piece) { return !has_text(piece) && piece.id_count == 0; }

EarlyStopping early_stopping_of(lrengine_early_stopping value) {
    switch (value) {
        case LRENGINE_STOP_HEURISTIC:
            return EarlyStopping::kHeuristic;
        case LRENGINE_STOP_FIRST:
            return EarlyStopping::kFirst;
        case LRENGINE_STOP_NEVER:
            return EarlyStopping::kNever;
        default:
            fail(ErrorCode::kInvalidArgument,
                 "early_stopping: found " + std::to_string(value) + ", expected 0 (heuristic), 1 (first) or 2 (never)");
    }
}

std::vector<std::string> stop_strings(const lrengine_generate_options& given) {
    if (given.stop_count > 0) require_pointer(given.stop, "stop");
    std::vector<std::string> stop;
    for (std::size_t i = 0; i < given.stop_count; ++i) {
        const std::string name = "stop[" + std::to_string(i) + "]";
        require_pointer(given.stop[i], name.c_str());
        stop.emplace_back(
            text_of(given.stop[i], given.stop_bytes == nullptr ? LRENGINE_TERMINATED : given.stop_bytes[i]));
        if (stop.back().empty()) fail(ErrorCode::kInvalidArgument, name + ": found empty text, expected some");
    }
    return stop;
}

}  // namespace

std::vector<lrengine_input> read_inputs(const lrengine_input* inputs, std::size_t count) {
    std::vector<lrengine_input> read;
    if (count == 0) return read;
    require_pointer(inputs, "inputs");
    const std::size_t size = inputs->struct_size;
    require_struct_size(size, sizeof(lrengine_input), "inputs[0]");
    const lrengine_input defaults = LRENGINE_INPUT_INIT;
    for (std::size_t i = 0; i < count; ++i) {
        const auto* input = reinterpret_cast<const lrengine_input*>(reinterpret_cast<const char*>(inputs) + i * size);
        const std::string name = "inputs[" + std::to_string(i) + "]";
        if (input->struct_size != size) {
            fail(ErrorCode::kInvalidArgument, name + ": struct_size is " + std::to_string(input->struct_size) +
                                                  ", expected that of inputs[0], " + std::to_string(size));
        }
        read.push_back(from_caller(input, defaults, name.c_str()));
    }
    return read;
}

Ids source_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name) {
    require_one_form(piece, name);
    if (!has_text(piece)) return ids_of(piece, name);
    return open.texts.of(LRENGINE_SOURCE).encode(text_of(piece), true);
}

Ids prefix_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name) {
    require_one_form(piece, name);
    if (!has_text(piece)) return ids_of(piece, name);
    return open.texts.of(LRENGINE_TARGET).encode(text_of(piece), false);
}

Ids closed_target_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name) {
    Ids ids = prefix_ids(open, piece, name);
    if (has_text(piece) && !open.end_tokens.empty()) ids.push_back(open.end_tokens.front());
    return ids;
}

Ids prompt_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name) {
    require_one_form(piece, name);
    if (!open.engine->config().fusion) {
        if (is_empty(piece)) return {};
        fail(ErrorCode::kInvalidArgument, name + ": " + open.engine->config().model_type + " models take no prompt");
    }
    if (has_text(piece)) return open.texts.prompt(text_of(piece));
    if (is_empty(piece) && open.texts.has_template()) return open.texts.prompt("");
    return ids_of(piece, name);
}

std::vector<Input> generation_inputs(const OpenEngine& open, const lrengine_input* inputs, std::size_t count) {
    std::vector<Input> result;
    for (const lrengine_input& input : read_inputs(inputs, count)) {
        const std::string name = "inputs[" + std::to_string(result.size()) + "].";
        result.push_back({source_ids(open, input.source, name + "source"),
                          prompt_ids(open, input.prompt, name + "prompt"),
                          prefix_ids(open, input.target, name + "target")});
    }
    return result;
}

GenerateRequest read_options(const lrengine_generate_options* options) {
    const lrengine_generate_options defaults = LRENGINE_GENERATE_OPTIONS_INIT;
    const lrengine_generate_options given = from_caller(options, defaults, "options");
    GenerateRequest request;
    GenerationOptions& to = request.options;
    to.max_new_tokens = given.max_new_tokens;
    to.min_new_tokens = given.min_new_tokens;
    to.num_beams = given.num_beams;
    to.num_return_sequences = given.num_return_sequences;
    to.length_penalty = given.length_penalty;
    to.early_stopping = early_stopping_of(given.early_stopping);
    to.repetition_penalty = given.repetition_penalty;
    to.no_repeat_ngram_size = given.no_repeat_ngram_size;
    to.do_sample = given.do_sample != 0;
    to.temperature = given.temperature;
    to.top_k = given.top_k;
    to.top_p = given.top_p;
    if (given.has_seed != 0) to.seed = given.seed;
    if (given.suppress_token_count > 0) {
        require_pointer(given.suppress_tokens, "suppress_tokens");
        to.suppress_tokens.assign(given.suppress_tokens, given.suppress_tokens + given.suppress_token_count);
    }
    request.stop = stop_strings(given);
    request.on_token = given.on_token;
    request.on_token_user = given.on_token_user;
    if (request.on_token != nullptr && to.num_beams > 1) {
        fail(ErrorCode::kInvalidArgument,
             "on_token: a beam search has no tokens before its end; use num_beams 1 or no callback");
    }
    return request;
}

}  // namespace lrengine::capi
