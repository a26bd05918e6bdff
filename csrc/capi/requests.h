// Inputs and options as the engine takes them.
#pragma once

#include <string>
#include <vector>

#include "capi/open_engine.h"

namespace lrengine::capi {

// Inputs of whatever size the caller's struct has. Throws Error(kInvalidArgument).
std::vector<lrengine_input> read_inputs(const lrengine_input* inputs, std::size_t count);

// `what` and `number` name the piece in messages: "inputs[3].source".
Ids source_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name);
// Ids that begin a target: text without special tokens.
Ids prefix_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name);
// Ids to score: text is closed by the first end token.
Ids closed_target_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name);
Ids prompt_ids(const OpenEngine& open, const lrengine_piece& piece, const std::string& name);

// Source, prompt and prefix of each.
std::vector<Input> generation_inputs(const OpenEngine& open, const lrengine_input* inputs, std::size_t count);

struct GenerateRequest {
    GenerationOptions options;
    std::vector<std::string> stop;
    lrengine_token_hook on_token = nullptr;
    void* on_token_user = nullptr;
};

GenerateRequest read_options(const lrengine_generate_options* options);

}  // namespace lrengine::capi
