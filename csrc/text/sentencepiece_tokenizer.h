// Tokenizers of SentencePiece model files, through libsentencepiece.
#pragma once

#include <filesystem>
#include <memory>

#include "text/tokenizer.h"

namespace lrengine::text {

// Throws Error(kModelFile) for a broken file, Error(kUnsupported) where this was built without libsentencepiece.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file);

}  // namespace lrengine::text
