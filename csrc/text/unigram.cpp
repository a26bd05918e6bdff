#include "text/unigram.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// An unknown character costs this much more than the least likely piece: SentencePiece's constant.
constexpr double kUnknownPenalty = 10.0;

constexpr std::size_t kLongest = 1024;  // a word takes up to this many steps a byte

// The best way to the place behind byte i: the piece that ends there and where it begins.
struct Step {
    double score = 0;
    std::int32_t begin = -1;
    std::int32_t id = 0;
};

}  // namespace

Unigram::Unigram(const JsonValue& description) {
    const JsonValue list = description.at("vocab");
    double least = std::numeric_limits<double>::infinity();
    list.for_each([&](const JsonValue& entry) {
        const auto [piece, score] = entry.text_and_number();
        if (vocabulary_.size() >= Vocabulary::kMostIds) list.refuse("at most 2^22 pieces");
        if (piece.size() > kLongest) entry.refuse_unsupported("a piece of at most 1024 bytes");
        vocabulary_.add(piece, static_cast<std::int32_t>(vocabulary_.size()));
        scores_.push_back(score);
        least = std::min(least, score);
    });
    if (vocabulary_.size() == 0) list.refuse("at least one piece");
    unknown_score_ = least - kUnknownPenalty;
    if (const auto id = description.find("unk_id")) {
        unknown_ = static_cast<std::int32_t>(id->integer(0, vocabulary_.size() - 1));
    }
    vocabulary_.index();
    std::vector<PrefixTrie::Entry> entries;
    entries.reserve(scores_.size());
    for (std::int32_t id = 0; id < vocabulary_.end(); ++id) entries.push_back({vocabulary_.piece(id), id});
    trie_ = PrefixTrie(std::move(entries));
    if (const auto fallback = description.find("byte_fallback"); fallback && fallback->boolean())
        bytes_ = byte_pieces();
}

void Unigram::emit(std::string_view piece, std::vector<std::int32_t>& ids) const {
    if (const auto id = vocabulary_.find(piece)) {
        ids.push_back(*id);
        return;
    }
    const auto known = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] >= 0; };
    if (!bytes_.empty() && std::all_of(piece.begin(), piece.end(), known)) {
        for (const char byte : piece) ids.push_back(bytes_[static_cast<unsigned char>(byte)]);
    } else {
        ids.push_back(unknown_);
    }
}

void Unigram::tokenize(std::string_view word, std::vector<std::int32_t>& ids) const {
    if (word.size() >= static_cast<std::size_t>(INT32_MAX)) {
        fail(ErrorCode::kInvalidArgument, "text: found a word of more than 2 GiB");
    }
    constexpr std::size_t kOnStack = 128;
    Step stack[kOnStack];
    std::vector<Step> heap(word.size() < kOnStack ? 0 : word.size() + 1);
    Step* steps = heap.empty() ? stack : heap.data();
    const auto reach = [&](std::size_t begin, std::size_t end, double score, std::int32_t id) {
        Step& step = steps[end];
        if (step.begin < 0 || score > step.score) step = {score, static_cast<std::int32_t>(begin), id};
    };
    for (std::size_t begin = 0; begin < word.size();) {
        const std::size_t width = character_bytes(word[begin]);
        const double so_far = steps[begin].score;
        bool single = false;
        trie_.prefixes(word.substr(begin), [&](std::size_t length, std::int32_t id) {
            reach(begin, begin + length, scores_[static_cast<std::size_t>(id)] + so_far, id);
            single = single || length == width;
        });
        if (!single) {
            if (unknown_ < 0) {
                fail(ErrorCode::kInvalidArgument,
                     "text: found a character that the tokenizer has no piece for, and it has no unknown piece either");
            }
            reach(begin, begin + width, unknown_score_ + so_far, unknown_);
        }
        begin += width;
    }
    // From the end back; neighbouring unknown pieces are one.
    std::vector<std::string_view> pieces;
    for (std::size_t end = word.size(); end > 0;) {
        std::size_t begin = static_cast<std::size_t>(steps[end].begin);
        while (steps[end].id == unknown_ && begin > 0 && steps[begin].id == unknown_) {
            begin = static_cast<std::size_t>(steps[begin].begin);
        }
        pieces.push_back(word.substr(begin, end - begin));
        end = begin;
    }
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) emit(*piece, ids);
}

}  // namespace lrengine::text
