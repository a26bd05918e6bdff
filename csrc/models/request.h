// The one place where what a caller sends to a model is checked, before anything is computed or allocated.
#pragma once

#include <span>

#include "models/generator.h"
#include "models/sequence_decoder.h"

namespace lrengine {

// Ids in the vocabulary, lengths within the position table. Throws Error(kInvalidArgument) naming the source and the
// token.
void check_sources(std::span<const TokenSpan> sources, const EncoderConfig& encoder);

// As above for sources, prompts and forced tokens, and that each row stays within the model's positions: one
// that fills them still predicts a token. Throws Error(kUnsupported) when a row is longer than the decoder's sliding
// window.
void check_generation(std::span<const GenerationSource> sources, const SequenceDecoder& decoder);

// Targets to score: one a source, in the vocabulary, and the row short enough.
void check_targets(std::span<const GenerationSource> sources, std::span<const TokenSpan> targets,
                   const SequenceDecoder& decoder);

}  // namespace lrengine
