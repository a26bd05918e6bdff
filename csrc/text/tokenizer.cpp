#include "text/tokenizer.h"

#include <algorithm>
#include <iterator>

#include "text/json_tokenizer.h"
#include "text/sentencepiece_tokenizer.h"

namespace lrengine {

namespace {

constexpr const char* kJson = "tokenizer.json";
constexpr const char* kSentencePiece[] = {"sentencepiece.bpe.model", "spiece.model"};

// A link to nowhere too, and where it cannot be known (a directory that may not be entered): whoever put it there meant
// a file, and opening it says what is wrong.
bool is_there(const std::filesystem::path& file) {
    std::error_code error;
    return std::filesystem::symlink_status(file, error).type() != std::filesystem::file_type::not_found;
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
    if (is_there(directory / kJson)) return std::make_unique<text::JsonTokenizer>(directory / kJson);
    for (const char* name : kSentencePiece) {
        if (is_there(directory / name)) return text::load_sentencepiece(directory / name);
    }
    return nullptr;
}

bool Tokenizer::has_one(const std::filesystem::path& directory) {
    return is_there(directory / kJson) || std::any_of(std::begin(kSentencePiece), std::end(kSentencePiece),
                                                      [&](const char* name) { return is_there(directory / name); });
}

}  // namespace lrengine
