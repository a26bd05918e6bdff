#include "text/replace.h"

#include "text/growth.h"

namespace lrengine::text {

Pattern::Pattern(const JsonValue& description) {
    if (const auto literal = description.find("String")) {
        literal_ = literal->text();
        if (literal_.empty()) literal->refuse_unsupported("a pattern that matches something");
        return;
    }
    const JsonValue regex = description.at("Regex");
    regex_.emplace(regex.text_view());
}

std::vector<Regex::Span> Pattern::find_all(std::string_view text) const {
    if (regex_) return regex_->find_all(text);
    std::vector<Regex::Span> found;
    for (std::size_t at = text.find(literal_); at != text.npos; at = text.find(literal_, at + literal_.size())) {
        found.emplace_back(at, at + literal_.size());
    }
    return found;
}

Replace::Replace(const JsonValue& description)
    : pattern_(description.at("pattern")), content_(description.at("content").text()) {
    if (pattern_.is_regex() && content_.find('$') != std::string::npos) {
        description.at("content").refuse_unsupported("no $ behind a Regex");
    }
}

std::string Replace::apply(std::string_view text, std::size_t most) const {
    std::string result;
    result.reserve(text.size());
    std::size_t done = 0;
    for (const auto& [begin, end] : pattern_.find_all(text)) {
        result.append(text.substr(done, begin - done)).append(content_);
        done = end;
        check_growth(result.size(), most);
    }
    return result.append(text.substr(done));
}

}  // namespace lrengine::text
