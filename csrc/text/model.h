// What turns a word into ids: the "model" of a tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/vocabulary.h"

namespace lrengine::text {

class Model {
public:
    virtual ~Model() = default;
    // Appends the ids of `word` (not empty). Throws Error(kInvalidArgument) for a character that the vocabulary does
    // not have when it has no unknown id either.
    virtual void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const = 0;

    const Vocabulary& vocabulary() const { return vocabulary_; }

protected:
    // The ids of the 256 pieces "<0x00>" .. "<0xFF>", -1 where there is none.
    std::vector<std::int32_t> byte_pieces() const;

    Vocabulary vocabulary_;
};

// Throws Error(kModelFile) for a broken description, Error(kUnsupported) for a kind this build does not read.
std::unique_ptr<Model> read_model(const JsonValue& description);

}  // namespace lrengine::text
