#include "text/tokenizer.h"

#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace lrengine {

namespace {

// A link to nowhere too, and where it cannot be known (a directory that may not be entered): whoever put it there meant
// a file, and opening it says what is wrong.
bool is_there(const std::filesystem::path& file) {
    std::error_code error;
    return std::filesystem::symlink_status(file, error).type() != std::filesystem::file_type::not_found;
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
    const auto json = directory / "tokenizer.json";
    if (is_there(json)) return std::make_unique<text::JsonTokenizer>(json);
    for (const char* name : {"sentencepiece.bpe.model", "spiece.model"}) {
        const auto model = directory / name;
        if (is_there(model)) return text::load_sentencepiece(model);
    }
    return nullptr;
}

}  // namespace lrengine
