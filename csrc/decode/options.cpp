#include "decode/options.h"

#include <cmath>
#include <set>
#include <sstream>
#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

template <typename T>
[[noreturn]] void refuse(const char* option, const T& found, const std::string& expected) {
    std::ostringstream message;
    message << option << ": found " << found << ", expected " << expected;
    fail(ErrorCode::kInvalidArgument, message.str());
}

void at_least(const char* option, std::int64_t found, std::int64_t least) {
    if (found < least) refuse(option, found, "at least " + std::to_string(least));
}

void positive(const char* option, double found) {
    if (!(found > 0.0) || std::isinf(found)) refuse(option, found, "a finite number over 0");
}

void validate_counts(const GenerationOptions& options, std::int64_t vocab_size) {
    at_least("max_new_tokens", options.max_new_tokens, 1);
    at_least("min_new_tokens", options.min_new_tokens, 0);
    if (options.min_new_tokens > options.max_new_tokens) {
        refuse("min_new_tokens", options.min_new_tokens,
               "at most max_new_tokens, which is " + std::to_string(options.max_new_tokens));
    }
    at_least("num_beams", options.num_beams, 1);
    if (options.num_beams > vocab_size) {
        refuse("num_beams", options.num_beams, "at most the vocabulary's size, " + std::to_string(vocab_size));
    }
    at_least("num_return_sequences", options.num_return_sequences, 1);
    const bool samples = options.do_sample && options.num_beams == 1;
    if (!samples && options.num_return_sequences > options.num_beams) {
        refuse("num_return_sequences", options.num_return_sequences,
               "at most num_beams, which is " + std::to_string(options.num_beams) + ", unless do_sample is set");
    }
    at_least("no_repeat_ngram_size", options.no_repeat_ngram_size, 0);
    at_least("top_k", options.top_k, 0);
}

}  // namespace

void validate(const GenerationOptions& options, std::int64_t vocab_size) {
    validate_counts(options, vocab_size);
    if (!std::isfinite(options.length_penalty)) refuse("length_penalty", options.length_penalty, "a finite number");
    positive("repetition_penalty", options.repetition_penalty);
    positive("temperature", options.temperature);
    const auto divisor = static_cast<float>(options.temperature);
    if (divisor == 0.0f || std::isinf(divisor)) {
        refuse("temperature", options.temperature, "a number that float32 holds, over 0");
    }
    if (!(options.top_p > 0.0 && options.top_p <= 1.0)) {
        refuse("top_p", options.top_p, "a number over 0 and at most 1");
    }
    std::set<std::int32_t> suppressed;
    for (const std::int32_t id : options.suppress_tokens) {
        if (id < 0 || id >= vocab_size) {
            refuse("suppress_tokens", id, "ids from 0 to " + std::to_string(vocab_size - 1));
        }
        suppressed.insert(id);
    }
    if (static_cast<std::int64_t>(suppressed.size()) >= vocab_size) {
        refuse("suppress_tokens", "the whole vocabulary", "at least one token that may be generated");
    }
}

}  // namespace lrengine
