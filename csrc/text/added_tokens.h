// Tokens on top of the model's vocabulary: found in the text as they stand, before or after it is normalized.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/normalizer.h"
#include "text/prefix_trie.h"
#include "text/vocabulary.h"

namespace lrengine::text {

class AddedTokens {
public:
    // A stretch of text (id empty) or a token in it.
    struct Part {
        std::size_t begin, end;
        std::optional<std::int32_t> id;
    };

    AddedTokens() = default;  // none
    // Ids are given as `tokenizers` gives them: the vocabulary's where it has the content, else the next free one.
    // `normalizer` may be null.
    AddedTokens(const JsonValue& list, const Vocabulary& vocabulary, const Normalizer* normalizer);

    // The parts of a text, in order, none empty. Tokens that are matched before normalization, and those after it.
    std::vector<Part> find_raw(std::string_view text) const { return find(raw_, text); }
    std::vector<Part> find_normalized(std::string_view text) const { return find(normalized_, text); }

    // A token as decoders see it: as it is matched, so normalized if it is matched after that. Null for another id.
    const std::string* spelling(std::int32_t id) const;
    // The id of a token's content, if there is such a token.
    std::optional<std::int32_t> id(std::string_view content) const {
        const auto found = ids_.find(content);
        return found == ids_.end() ? std::nullopt : std::optional(found->second);
    }
    bool is_special(std::string_view spelling) const { return special_.contains(spelling); }
    // Tokens that the vocabulary does not have.
    std::int64_t beyond_vocabulary() const { return beyond_; }

private:
    struct Token {
        std::string content;
        bool single_word, lstrip, rstrip, normalized, special;
        bool operator==(const Token&) const = default;
    };
    struct Matcher {
        PrefixTrie trie;  // to places in ids
        std::vector<std::int32_t> ids;
    };

    void add(const Token& token, const Vocabulary& vocabulary);
    Matcher matcher(const std::vector<std::string>& contents, std::vector<std::int32_t> ids) const;
    std::vector<Part> find(const Matcher& matcher, std::string_view text) const;

    std::map<std::string, std::int32_t, std::less<>> ids_;
    std::map<std::int32_t, Token> tokens_;
    std::map<std::int32_t, std::string> spellings_;
    std::set<std::string, std::less<>> special_;
    std::vector<Token> special_order_, plain_order_;
    std::int64_t beyond_ = 0;
    Matcher raw_, normalized_;
};

}  // namespace lrengine::text
