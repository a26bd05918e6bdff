#include "text/metaspace.h"

#include "text/unicode.h"

namespace lrengine::text {

Metaspace::Metaspace(const JsonValue& description) {
    const JsonValue mark = description.at("replacement");
    mark_ = mark.text();
    if (mark_.empty() || character_bytes(mark_[0]) != mark_.size()) mark.refuse("one character");
    const auto scheme = description.find("prepend_scheme");
    const auto add = description.find("add_prefix_space");
    if (scheme) {
        const std::string name = scheme->text();
        if (name != "always" && name != "first" && name != "never") scheme->refuse("always, first or never");
        prepend_ = name == "always" ? Prepend::kAlways : name == "first" ? Prepend::kFirst : Prepend::kNever;
    }
    if (add && !add->boolean()) {
        if (scheme && prepend_ != Prepend::kNever) scheme->refuse("never, which add_prefix_space says");
        prepend_ = Prepend::kNever;
    }
    if (const auto split = description.find("split")) splits_ = split->boolean();
}

void Metaspace::append_marked(std::string_view word, bool at_start, std::string& result) const {
    const bool prepends = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && at_start);
    if (prepends && !word.starts_with(' ') && !word.starts_with(mark_)) result += mark_;
    for (std::size_t i = 0; i < word.size();) {
        const std::size_t space = std::min(word.find(' ', i), word.size());
        result.append(word.substr(i, space - i));
        if (space < word.size()) result += mark_;
        i = space + 1;
    }
}

std::string Metaspace::unmarked(std::string_view piece, bool is_first) const {
    std::string result;
    const bool drops = is_first && prepend_ != Prepend::kNever;
    for (std::size_t i = 0; i < piece.size();) {
        const std::size_t mark = std::min(piece.find(mark_, i), piece.size());
        result.append(piece.substr(i, mark - i));
        if (mark < piece.size() && !drops) result += ' ';
        i = mark + mark_.size();
    }
    return result;
}

}  // namespace lrengine::text
