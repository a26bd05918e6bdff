// Text to ids and back, without Python: the tokenizer of a model directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lrengine {

// Immutable: one may be used by several threads at once.
class Tokenizer {
public:
    virtual ~Tokenizer() = default;

    // The tokenizer of a directory: tokenizer.json, else a SentencePiece model (sentencepiece.bpe.model, spiece.model)
    // where libsentencepiece was found when this was built; null if the directory has neither. Throws Error(kModelFile)
    // for a broken file and Error(kUnsupported) for one with a part that this build does not read, which the message
    // names. Truncation and padding that the file asks for are left out.
    static std::unique_ptr<Tokenizer> load(const std::filesystem::path& directory);
    // Whether load() finds a file there, sound or not.
    static bool has_one(const std::filesystem::path& directory);

    // `text` is UTF-8; what is malformed in it counts as U+FFFD. With `special_tokens`, those that the tokenizer puts
    // around a text come too. Throws Error(kInvalidArgument) for a text that the tokenizer cannot express.
    virtual std::vector<std::int32_t> encode(std::string_view text, bool special_tokens) const = 0;
    // UTF-8. Special tokens and ids that the tokenizer does not have are left out.
    virtual std::string decode(std::span<const std::int32_t> ids) const = 0;
    // The tokenizer's own name of an id, empty if it has none.
    virtual std::string piece(std::int32_t id) const = 0;
    // The id of the added token or the vocabulary's piece of this name, -1 if there is none.
    virtual std::int32_t id(std::string_view piece) const = 0;
    // How many pieces there are.
    virtual std::int64_t size() const = 0;
};

}  // namespace lrengine
