#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

#include "core/error.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

constexpr std::size_t kMostMerges = std::size_t{1} << 21;
constexpr std::size_t kFewSymbols = 48;  // up to here looking at every pair is faster than a queue

std::size_t hash_of(std::int32_t left, std::int32_t right) {
    const std::uint64_t both =
        std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
    return static_cast<std::size_t>(both * 0x9E3779B97F4A7C15u >> 29);
}

bool is_set(const JsonValue& description, const std::string& name) {
    const auto value = description.find(name);
    return value && value->boolean();
}

}  // namespace

Bpe::Bpe(const JsonValue& description) {
    for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        const auto value = description.find(name);
        if (value && !value->text().empty()) value->refuse_unsupported("no such affix");
    }
    if (const auto dropout = description.find("dropout"); dropout && dropout->number() != 0) {
        dropout->refuse_unsupported("no dropout");
    }
    description.at("vocab").for_each_member([&](const std::string& piece, const JsonValue& value) {
        const auto id = static_cast<std::int32_t>(value.integer(0, Vocabulary::kMostIds - 1));
        if (vocabulary_.has(id)) value.refuse("an id that no other piece has");
        vocabulary_.add(piece, id);
    });
    vocabulary_.index();
    for (std::size_t i = 0; i < characters_.size(); ++i) {
        std::string text;
        append_character(text, static_cast<char32_t>(i));
        characters_[i] = vocabulary_.find(text).value_or(-1);
    }
    read_merges(description.at("merges"));
    if (const auto unknown = description.find("unk_token")) {
        const auto id = vocabulary_.find(unknown->text());
        if (!id) unknown->refuse("a piece of the vocabulary");
        unknown_ = *id;
    }
    fuse_unknown_ = is_set(description, "fuse_unk");
    whole_words_ = is_set(description, "ignore_merges");
    if (is_set(description, "byte_fallback")) bytes_ = byte_pieces();
}

void Bpe::read_merges(const JsonValue& list) {
    if (list.size() > kMostMerges) list.refuse_unsupported("at most 2^21 merges");
    merges_.resize(std::bit_ceil(list.size() * 2 + 1));
    std::int32_t rank = 0;
    list.for_each([&](const JsonValue& entry) {
        if (entry.is_list()) {
            const auto [left, right] = entry.two_texts();
            add_merge(left, right, rank++, entry);
            return;
        }
        const std::string_view both = entry.text_view();
        const std::size_t space = both.find(' ');
        if (space == both.npos || both.find(' ', space + 1) != both.npos)
            entry.refuse("two pieces and a space between");
        add_merge(both.substr(0, space), both.substr(space + 1), rank++, entry);
    });
}

void Bpe::add_merge(std::string_view left, std::string_view right, std::int32_t rank, const JsonValue& entry) {
    std::string whole(left);
    whole += right;
    const auto a = vocabulary_.find(left), b = vocabulary_.find(right), result = vocabulary_.find(whole);
    if (!a || !b || !result) entry.refuse("pieces of the vocabulary that make another one");
    std::size_t slot = hash_of(*a, *b) & (merges_.size() - 1);
    while (merges_[slot].left >= 0 && (merges_[slot].left != *a || merges_[slot].right != *b)) {
        slot = (slot + 1) & (merges_.size() - 1);
    }
    merges_[slot] = {*a, *b, rank, *result};
}

const Bpe::Merge* Bpe::find(std::int32_t left, std::int32_t right) const {
    std::size_t slot = hash_of(left, right) & (merges_.size() - 1);
    for (; merges_[slot].left >= 0; slot = (slot + 1) & (merges_.size() - 1)) {
        if (merges_[slot].left == left && merges_[slot].right == right) return &merges_[slot];
    }
    return nullptr;
}

std::optional<std::int32_t> Bpe::character(std::string_view text) const {
    if (static_cast<unsigned char>(text[0]) < 0xC8) {  // U+0200 begins with this byte
        std::size_t place = 0;
        const std::int32_t id = characters_[next_character(text, place)];
        return id < 0 ? std::nullopt : std::optional(id);
    }
    return vocabulary_.find(text);
}

// Writes the symbols of the word's characters and returns how many. `symbols` has room for every byte of the word.
std::size_t Bpe::characters(std::string_view word, std::int32_t* symbols) const {
    std::size_t count = 0;
    bool unknown = false;  // one is to be written; what byte fallback gives goes before it, as in Hugging Face's
    for (std::size_t i = 0; i < word.size();) {
        const std::string_view text = word.substr(i, character_bytes(word[i]));
        i += text.size();
        if (const auto id = character(text)) {
            if (unknown) symbols[count++] = unknown_;
            unknown = false;
            symbols[count++] = *id;
            continue;
        }
        const auto known = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] >= 0; };
        if (!bytes_.empty() && std::all_of(text.begin(), text.end(), known)) {
            for (const char byte : text) symbols[count++] = bytes_[static_cast<unsigned char>(byte)];
        } else if (unknown_ >= 0) {
            if (unknown && !fuse_unknown_) symbols[count++] = unknown_;
            unknown = true;
        }
    }
    if (unknown) symbols[count++] = unknown_;
    return count;
}

std::size_t Bpe::merge_few(std::span<std::int32_t> symbols) const {
    std::size_t count = symbols.size();
    const Merge* pairs[kFewSymbols];  // of a symbol and the next
    for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = find(symbols[i], symbols[i + 1]);
    while (count > 1) {
        std::size_t best = count;
        for (std::size_t i = 0; i + 1 < count; ++i) {
            if (pairs[i] != nullptr && (best == count || pairs[i]->rank < pairs[best]->rank)) best = i;
        }
        if (best == count) break;
        symbols[best] = pairs[best]->result;
        --count;
        for (std::size_t i = best + 1; i < count; ++i) symbols[i] = symbols[i + 1];
        for (std::size_t i = best + 1; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
        if (best > 0) pairs[best - 1] = find(symbols[best - 1], symbols[best]);
        if (best + 1 < count) pairs[best] = find(symbols[best], symbols[best + 1]);
    }
    return count;
}

// The same with a queue of pairs, so that a long word takes n log n steps.
std::size_t Bpe::merge_many(std::span<std::int32_t> symbols) const {
    constexpr std::size_t kNone = SIZE_MAX;
    const std::size_t count = symbols.size();
    std::vector<std::size_t> before(count), after(count);
    using Entry = std::tuple<std::int32_t, std::size_t, std::int32_t>;  // rank, place, result
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto offer = [&](std::size_t left, std::size_t right) {
        const Merge* merge = find(symbols[left], symbols[right]);
        if (merge != nullptr) queue.emplace(merge->rank, left, merge->result);
    };
    for (std::size_t i = 0; i < count; ++i) {
        before[i] = i == 0 ? kNone : i - 1;
        after[i] = i + 1 == count ? kNone : i + 1;
        if (i + 1 < count) offer(i, i + 1);
    }
    while (!queue.empty()) {
        const auto [rank, left, result] = queue.top();
        queue.pop();
        const std::size_t right = symbols[left] < 0 ? kNone : after[left];
        if (right == kNone) continue;
        const Merge* merge = find(symbols[left], symbols[right]);
        if (merge == nullptr || merge->result != result) continue;  // a neighbour has changed since
        symbols[left] = result;
        symbols[right] = -1;
        after[left] = after[right];
        if (after[left] != kNone) {
            before[after[left]] = left;
            offer(left, after[left]);
        }
        if (before[left] != kNone) offer(before[left], left);
    }
    const auto end = std::remove(symbols.begin(), symbols.end(), -1);
    return static_cast<std::size_t>(end - symbols.begin());
}

void Bpe::tokenize(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (whole_words_) {
        if (const auto id = vocabulary_.find(word)) {
            ids.push_back(*id);
            return;
        }
    }
    const std::size_t begin = ids.size();
    ids.resize(begin + word.size());
    const std::size_t symbols = characters(word, ids.data() + begin);
    const std::span<std::int32_t> all(ids.data() + begin, symbols);
    ids.resize(begin + (symbols <= kFewSymbols ? merge_few(all) : merge_many(all)));
}

}  // namespace lrengine::text
