#include "text/sentencepiece_tokenizer.h"

#include "core/error.h"

namespace lrengine::text {

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file) {
    fail(ErrorCode::kUnsupported, file.string() + ": found a SentencePiece model, expected tokenizer.json: this was " +
                                      "built without libsentencepiece");
}

}  // namespace lrengine::text
