// What a tokenizer does to text before it is cut into words.
#pragma once

#include <memory>
#include <string>

#include "core/json.h"

namespace lrengine::text {

// A stretch of the text that is being encoded. `at_start`: its first byte stems from the first byte of the whole text,
// which Metaspace's "first" asks for.
struct Stretch {
    std::string text;
    bool at_start = false;
    std::size_t most_bytes = 0;  // a normalizer may not make it longer: see growth.h
};

class Normalizer {
public:
    virtual ~Normalizer() = default;
    virtual void apply(Stretch& stretch) const = 0;
};

// Sequence, Precompiled, Replace, Prepend, NFC, NFD, NFKC, NFKD, Strip, Lowercase. Throws Error(kModelFile) for a
// broken description, Error(kUnsupported) for another kind. `file` is for messages.
std::unique_ptr<Normalizer> read_normalizer(const JsonValue& description, const std::string& file);

}  // namespace lrengine::text
