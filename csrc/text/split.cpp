#include "text/split.h"

namespace lrengine::text {

namespace {

struct Part {
    Regex::Span span;
    bool is_match;
};

// The matches and what lies between them; nothing is empty.
std::vector<Part> parts_of(std::string_view text, const std::vector<Regex::Span>& matches, bool invert) {
    std::vector<Part> parts;
    parts.reserve(matches.size() * 2 + 1);
    std::size_t done = 0;
    for (const Regex::Span& match : matches) {
        if (done != match.first) parts.push_back({{done, match.first}, invert});
        parts.push_back({match, !invert});
        done = match.second;
    }
    if (done != text.size()) parts.push_back({{done, text.size()}, invert});
    return parts;
}

}  // namespace

void Split::cut(std::string_view text, std::vector<Regex::Span>& words) const {
    const std::vector<Part> parts = parts_of(text, find_(text), invert_);
    const std::size_t first = words.size();
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto& [span, is_match] = parts[i];
        const bool after_match = i > 0 && parts[i - 1].is_match;
        bool joins = false;  // the part before it
        switch (behavior_) {
            case SplitBehavior::kIsolated:
                break;
            case SplitBehavior::kRemoved:
                if (is_match) continue;
                break;
            case SplitBehavior::kMergedWithPrevious:
                joins = is_match && !after_match;
                break;
            case SplitBehavior::kMergedWithNext:
                joins = after_match && !is_match;
                break;
            case SplitBehavior::kContiguous:
                joins = i > 0 && is_match == after_match;
                break;
        }
        if (joins && words.size() > first) {
            words.back().second = span.second;
        } else {
            words.push_back(span);
        }
    }
}

void Split::apply(Words& words) const {
    std::vector<Words::Span> spans;
    spans.reserve(words.spans.size() * 2);
    std::vector<Regex::Span> cuts;
    for (const Words::Span& span : words.spans) {
        cuts.clear();
        cut(words.word(span), cuts);
        for (const auto& [begin, end] : cuts) {
            spans.push_back({span.begin + begin, span.begin + end, span.at_start && begin == 0});
        }
    }
    words.spans = std::move(spans);
}

}  // namespace lrengine::text
