// Cuts words where a pattern matches.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.h"
#include "text/regex.h"

namespace lrengine::text {

// What becomes of a match.
enum class SplitBehavior {
    kIsolated,            // a word of its own
    kRemoved,             // left out
    kMergedWithPrevious,  // the end of the word before it, unless that is a match too
    kMergedWithNext,      // the beginning of the word behind it, unless that is a match too
    kContiguous,          // one word with neighbouring matches
};

using Finder = std::function<std::vector<Regex::Span>(std::string_view)>;

class Split final : public PreTokenizer {
public:
    // With `invert`, what lies between the matches is what matches.
    Split(Finder find, SplitBehavior behavior, bool invert)
        : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

    void apply(Words& words) const override;
    // Appends the words of `text`.
    void cut(std::string_view text, std::vector<Regex::Span>& words) const;

private:
    Finder find_;
    SplitBehavior behavior_;
    bool invert_;
};

}  // namespace lrengine::text
