// Replaces what a pattern matches: {"pattern": {"String": ...} or {"Regex": ...}, "content": ...}. A normalizer and a
// decoder.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "text/regex.h"

namespace lrengine::text {

// A literal or a regular expression, as "pattern" holds it.
class Pattern {
public:
    explicit Pattern(const JsonValue& description);
    // Matches from left to right that do not overlap.
    std::vector<Regex::Span> find_all(std::string_view text) const;
    bool is_regex() const { return regex_.has_value(); }

private:
    std::string literal_;
    std::optional<Regex> regex_;
};

class Replace {
public:
    explicit Replace(const JsonValue& description);
    // Throws Error(kInvalidArgument) when the result would be longer than `most` bytes.
    std::string apply(std::string_view text, std::size_t most) const;

private:
    Pattern pattern_;
    std::string content_;
};

}  // namespace lrengine::text
