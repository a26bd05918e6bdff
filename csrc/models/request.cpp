#include "models/request.h"

#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

[[noreturn]] void refuse(const std::string& what) { fail(ErrorCode::kInvalidArgument, what); }

void check_ids(TokenSpan ids, std::int64_t vocab, const std::string& what) {
    for (std::size_t t = 0; t < ids.size(); ++t) {
        if (ids[t] >= 0 && ids[t] < vocab) continue;
        refuse(what + ": token " + std::to_string(t) + " has id " + std::to_string(ids[t]) + ", expected 0 to " +
               std::to_string(vocab - 1));
    }
}

void check_source(TokenSpan source, const EncoderConfig& encoder, std::size_t index) {
    const std::string what = "source " + std::to_string(index);
    const auto length = static_cast<std::int64_t>(source.size());
    if (encoder.max_positions > 0 && length > encoder.max_positions) {
        refuse(what + " has " + std::to_string(length) + " tokens, the encoder takes at most " +
               std::to_string(encoder.max_positions));
    }
    check_ids(source, encoder.vocab, what);
}

// `length` positions of row `index`, a number that prompts, prefixes and new tokens add up to.
void check_length(std::int64_t length, std::size_t index, const DecoderTraits& traits) {
    const std::string what = "source " + std::to_string(index) + " needs " + std::to_string(length) +
                             " positions (source, prompt, forced and new tokens)";
    if (traits.max_length > 0 && length > traits.max_length) {
        refuse(what + ", the model has " + std::to_string(traits.max_length));
    }
    if (traits.window > 0 && length > traits.window) {
        fail(ErrorCode::kUnsupported,
             what + ", more than the model's sliding window of " + std::to_string(traits.window));
    }
}

void check_inputs(const GenerationSource& source, std::size_t index, const SequenceDecoder& decoder) {
    const DecoderTraits& traits = decoder.traits();
    const std::string suffix = " of source " + std::to_string(index);
    check_source(source.source, decoder.source_encoder(), index);
    if (!traits.takes_prompt && !source.prompt.empty()) refuse("this model takes no prompt; found the prompt" + suffix);
    if (traits.needs_first_token && source.forced.empty()) refuse("no decoder start token" + suffix);
    check_ids(source.prompt, traits.vocab, "prompt" + suffix);
    check_ids(source.forced, traits.vocab, "forced tokens" + suffix);
}

std::int64_t fed_length(const GenerationSource& source, const SequenceDecoder& decoder) {
    return decoder.prefix_length(source.source, source.prompt) + static_cast<std::int64_t>(source.forced.size());
}

}  // namespace

void check_sources(std::span<const TokenSpan> sources, const EncoderConfig& encoder) {
    for (std::size_t i = 0; i < sources.size(); ++i) check_source(sources[i], encoder, i);
}

void check_generation(std::span<const GenerationSource> sources, const SequenceDecoder& decoder) {
    for (std::size_t i = 0; i < sources.size(); ++i) {
        check_inputs(sources[i], i, decoder);
        const std::int64_t fed = fed_length(sources[i], decoder);
        if (fed == 0) refuse("source " + std::to_string(i) + ": nothing to predict the first token from");
        check_length(fed, i, decoder.traits());
    }
}

void check_targets(std::span<const GenerationSource> sources, std::span<const TokenSpan> targets,
                   const SequenceDecoder& decoder) {
    if (targets.size() != sources.size()) {
        refuse("score: " + std::to_string(sources.size()) + " sources and " + std::to_string(targets.size()) +
               " targets");
    }
    check_generation(sources, decoder);
    for (std::size_t i = 0; i < targets.size(); ++i) {
        if (targets[i].empty()) continue;
        check_ids(targets[i], decoder.traits().vocab, "target " + std::to_string(i));
        // The last target is predicted, not fed.
        check_length(fed_length(sources[i], decoder) + static_cast<std::int64_t>(targets[i].size()) - 1, i,
                     decoder.traits());
    }
}

}  // namespace lrengine
