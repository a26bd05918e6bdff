#include "text/tokenizer.h"

#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace lrengine {

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
    std::error_code error;
    const auto json = directory / "tokenizer.json";
    if (std::filesystem::exists(json, error)) return std::make_unique<text::JsonTokenizer>(json);
    for (const char* name : {"sentencepiece.bpe.model", "spiece.model"}) {
        const auto model = directory / name;
        if (std::filesystem::exists(model, error)) return text::load_sentencepiece(model);
    }
    return nullptr;
}

}  // namespace lrengine
