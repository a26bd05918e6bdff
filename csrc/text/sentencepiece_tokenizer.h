// Tokenizers of SentencePiece model files, through libsentencepiece: XLM-R's (sentencepiece.bpe.model) and T5's and
// mT5's (spiece.model). Special tokens in a text are not looked for: they are text. The library reads the file itself:
// unlike a tokenizer.json, one from a stranger is only as safe as the library.
#pragma once

#include <filesystem>
#include <memory>

#include "text/tokenizer.h"

namespace lrengine::text {

// Throws Error(kModelFile) for a broken file, Error(kUnsupported) for another family's (by tokenizer_config.json beside
// it) and where this was built without libsentencepiece.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file);

}  // namespace lrengine::text
