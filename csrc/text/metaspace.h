// Spaces as a visible mark (U+2581), SentencePiece's way: before the model, and back behind it.
#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace lrengine::text {

class Metaspace {
public:
    // Reads the description of the pre-tokenizer or the decoder, in its old spelling (add_prefix_space) or its new one
    // (prepend_scheme).
    explicit Metaspace(const JsonValue& description);

    // Appends `word` with marks for spaces, and one before it where the scheme says so.
    void append_marked(std::string_view word, bool at_start, std::string& result) const;
    // `piece` with spaces for marks; the first piece of a text loses them where the scheme adds one.
    std::string unmarked(std::string_view piece, bool is_first) const;

    bool splits() const { return splits_; }
    const std::string& mark() const { return mark_; }

private:
    enum class Prepend { kAlways, kFirst, kNever };

    std::string mark_;
    Prepend prepend_ = Prepend::kAlways;
    bool splits_ = true;
};

}  // namespace lrengine::text
