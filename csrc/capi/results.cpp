#include "capi/results.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "capi/status.h"
#include "capi/structs.h"

namespace lrengine::capi {

namespace {

lrengine_finish_reason reason_of(FinishReason reason) {
    switch (reason) {
        case FinishReason::kStop:
            return LRENGINE_FINISH_STOP;
        case FinishReason::kLength:
            return LRENGINE_FINISH_LENGTH;
        case FinishReason::kCancelled:
            break;
    }
    return LRENGINE_FINISH_CANCELLED;
}

std::string missing(const char* what, std::size_t found, std::size_t count) {
    return std::string(what) + ": found " + std::to_string(found) + ", expected less than " + std::to_string(count);
}

}  // namespace

lrengine_generations* make_generations(std::vector<std::vector<Hypothesis>> results,
                                       const std::vector<TargetText>& texts) {
    auto made = std::make_unique<lrengine_generations>();
    for (std::size_t input = 0; input < results.size(); ++input) {
        std::vector<lrengine_generations::Answer>& answers = made->inputs.emplace_back();
        for (Hypothesis& hypothesis : results[input]) {
            lrengine_generations::Answer& answer = answers.emplace_back();
            if (!texts.empty()) answer.text = texts[input].cut(hypothesis.tokens);
            answer.hypothesis = std::move(hypothesis);
        }
    }
    return made.release();
}

}  // namespace lrengine::capi

using namespace lrengine;

extern "C" {

size_t lrengine_generations_inputs(const lrengine_generations* generations) {
    return generations == nullptr ? 0 : generations->inputs.size();
}

size_t lrengine_generations_sequences(const lrengine_generations* generations, size_t input) {
    if (generations == nullptr || input >= generations->inputs.size()) return 0;
    return generations->inputs[input].size();
}

lrengine_status lrengine_generations_get(const lrengine_generations* generations, size_t input, size_t sequence,
                                         lrengine_generation* generation) {
    return capi::guard([&] {
        capi::require_pointer(generations, "generations");
        const auto& inputs = generations->inputs;
        if (input >= inputs.size()) fail(ErrorCode::kInvalidArgument, capi::missing("input", input, inputs.size()));
        if (sequence >= inputs[input].size()) {
            fail(ErrorCode::kInvalidArgument, capi::missing("sequence", sequence, inputs[input].size()));
        }
        const lrengine_generations::Answer& answer = inputs[input][sequence];
        lrengine_generation out{};
        out.tokens = answer.hypothesis.tokens.data();
        out.token_count = answer.hypothesis.tokens.size();
        out.log_probs = answer.hypothesis.token_log_probs.data();
        out.log_prob_count = answer.hypothesis.token_log_probs.size();
        out.score = answer.hypothesis.score();
        if (answer.text) {
            out.text = answer.text->c_str();
            out.text_bytes = answer.text->size();
        }
        out.finish_reason = capi::reason_of(answer.hypothesis.finish_reason);
        capi::to_caller(generation, out, "generation");
    });
}

void lrengine_generations_free(lrengine_generations* generations) { delete generations; }

size_t lrengine_arrays_count(const lrengine_arrays* arrays) { return arrays == nullptr ? 0 : arrays->arrays.size(); }

lrengine_status lrengine_arrays_get(const lrengine_arrays* arrays, size_t index, lrengine_array* array) {
    return capi::guard([&] {
        capi::require_pointer(arrays, "arrays");
        const std::size_t count = arrays->arrays.size();
        if (index >= count) fail(ErrorCode::kInvalidArgument, capi::missing("index", index, count));
        const lrengine_arrays::Array& stored = arrays->arrays[index];
        lrengine_array out{};
        out.data = stored.data.data();
        out.size = stored.data.size();
        out.dimensions = stored.shape.size();
        std::copy(stored.shape.begin(), stored.shape.end(), out.shape);
        capi::to_caller(array, out, "array");
    });
}

void lrengine_arrays_free(lrengine_arrays* arrays) { delete arrays; }

}  // extern "C"
