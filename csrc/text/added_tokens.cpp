#include "text/added_tokens.h"

#include <algorithm>

#include "text/growth.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

constexpr std::size_t kLongest = 1024;  // looking for tokens takes up to this many steps a byte

}  // namespace

AddedTokens::AddedTokens(const JsonValue& list, const Vocabulary& vocabulary, const Normalizer* normalizer) {
    list.for_each([&](const JsonValue& entry) {
        const auto flag = [&](const char* name) { return entry.at(name).boolean(); };
        entry.at("id").integer(0, Vocabulary::kMostIds - 1);  // checked, and otherwise not used: see the header
        const JsonValue content = entry.at("content");
        if (content.text_view().size() > kLongest) content.refuse_unsupported("at most 1024 bytes");
        add({entry.at("content").text(), flag("single_word"), flag("lstrip"), flag("rstrip"), flag("normalized"),
             flag("special")},
            vocabulary);
    });
    for (const auto& [id, token] : tokens_) {
        Stretch stretch{token.content, true, most_bytes(token.content.size())};
        if (token.normalized && normalizer != nullptr) normalizer->apply(stretch);
        spellings_.emplace(id, std::move(stretch.text));
    }
    // Of tokens with the same spelling the special ones come first.
    std::vector<std::string> raw, normalized;
    std::vector<std::int32_t> raw_ids, normalized_ids;
    for (const auto* order : {&special_order_, &plain_order_}) {
        for (const Token& token : *order) {
            const std::int32_t id = ids_.at(token.content);
            if (!token.normalized) {
                raw.push_back(token.content);
                raw_ids.push_back(id);
                continue;
            }
            normalized.push_back(spellings_.at(id));
            normalized_ids.push_back(id);
        }
    }
    raw_ = matcher(raw, std::move(raw_ids));
    normalized_ = matcher(normalized, std::move(normalized_ids));
}

void AddedTokens::add(const Token& token, const Vocabulary& vocabulary) {
    if (token.content.empty()) return;
    if (token.special && special_.insert(token.content).second) special_order_.push_back(token);
    std::int32_t id = 0;
    if (const auto known = ids_.find(token.content); known != ids_.end()) {
        id = known->second;
        if (tokens_.at(id) == token) return;
    } else if (const auto piece = vocabulary.find(token.content)) {
        id = *piece;
    } else {
        id = static_cast<std::int32_t>(vocabulary.size());
        if (!tokens_.empty() && tokens_.rbegin()->first >= id) id = tokens_.rbegin()->first + 1;
        ++beyond_;
    }
    ids_[token.content] = id;
    tokens_.insert_or_assign(id, token);
    if (!special_.contains(token.content)) plain_order_.push_back(token);
}

AddedTokens::Matcher AddedTokens::matcher(const std::vector<std::string>& contents,
                                          std::vector<std::int32_t> ids) const {
    std::vector<PrefixTrie::Entry> entries;
    for (std::size_t i = contents.size(); i-- > 0;) {  // the trie keeps the last of equal keys, and the first counts
        entries.push_back({contents[i], static_cast<std::int32_t>(i)});
    }
    return {PrefixTrie(std::move(entries)), std::move(ids)};
}

const std::string* AddedTokens::spelling(std::int32_t id) const {
    const auto found = spellings_.find(id);
    return found == spellings_.end() ? nullptr : &found->second;
}

std::vector<AddedTokens::Part> AddedTokens::find(const Matcher& matcher, std::string_view text) const {
    std::vector<Part> parts;
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t length = 0;
        std::int32_t place = 0;
        matcher.trie.prefixes(text.substr(at), [&](std::size_t longest, std::int32_t value) {
            length = longest;
            place = value;
        });
        if (length == 0) {
            ++at;
            continue;
        }
        std::size_t begin = at, end = at + length;
        at = end;
        const std::int32_t id = matcher.ids[static_cast<std::size_t>(place)];
        const Token& token = tokens_.at(id);
        std::size_t side = begin;
        if (token.single_word && begin > 0 && is_word(previous_character(text, side))) continue;
        side = end;
        if (token.single_word && end < text.size() && is_word(next_character(text, side))) continue;
        for (side = begin; token.lstrip && side > done && is_space(previous_character(text, side));) begin = side;
        for (side = end; token.rstrip && side < text.size() && is_space(next_character(text, side));) end = side;
        if (done < begin) parts.push_back({done, begin, std::nullopt});
        parts.push_back({begin, end, id});
        done = end;
    }
    if (done < text.size()) parts.push_back({done, text.size(), std::nullopt});
    return parts;
}

}  // namespace lrengine::text
