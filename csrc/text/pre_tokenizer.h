// How a tokenizer cuts a stretch of text into words, which the model then cuts into pieces.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace lrengine::text {

// A text and the words in it, in order; none is empty.
struct Words {
    struct Span {
        std::size_t begin, end;
        bool at_start;  // see Stretch
    };

    std::string text;
    std::vector<Span> spans;

    std::string_view word(const Span& span) const {
        return std::string_view(text).substr(span.begin, span.end - span.begin);
    }
};

class PreTokenizer {
public:
    virtual ~PreTokenizer() = default;
    virtual void apply(Words& words) const = 0;
};

// Sequence, Metaspace, ByteLevel, Split, Digits, WhitespaceSplit. Throws Error(kModelFile) for a broken
// description, Error(kUnsupported) for another kind.
std::unique_ptr<PreTokenizer> read_pre_tokenizer(const JsonValue& description);

}  // namespace lrengine::text
