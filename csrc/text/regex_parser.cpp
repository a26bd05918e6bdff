#include "text/regex_parser.h"

#include <algorithm>
#include <utility>

#include "text/unicode.h"

namespace lrengine::text {

namespace {

constexpr std::size_t kInstructions = 4096;  // a repeated group is written out
constexpr std::uint32_t kUnbounded = UINT32_MAX, kLargestCount = 1000;

}  // namespace

RegexParser::RegexParser(std::string_view pattern, Regex& regex) : shown_(pattern.substr(0, 200)), regex_(regex) {
    for (std::size_t i = 0; i < pattern.size();) pattern_.push_back(next_character(pattern, i));
}

void RegexParser::refuse(ErrorCode code, const std::string& what) const {
    fail(code, "pattern \"" + shown_ + "\": " + what + " at character " + std::to_string(position_));
}

void RegexParser::check_size(std::size_t size) const {
    if (size > kInstructions) refuse(ErrorCode::kUnsupported, "found a pattern that is too large");
}

bool RegexParser::take(std::u32string_view text) {
    if (std::u32string_view(pattern_).substr(position_, text.size()) != text) return false;
    position_ += text.size();
    return true;
}

char32_t RegexParser::next() {
    if (at_end()) refuse(ErrorCode::kModelFile, "found the end, expected more");
    return pattern_[position_++];
}

void RegexParser::parse() {
    any_case_ = take(U"(?i)");
    Part whole = alternatives();
    if (!at_end()) refuse(ErrorCode::kModelFile, "found ) without (");
    if (whole.can_be_empty) refuse(ErrorCode::kUnsupported, "found a pattern that matches the empty text");
    whole.code.push_back({.op = Op::kAccept});
    regex_.program_ = std::move(whole.code);
}

RegexParser::Part RegexParser::alternatives() {
    Part left = sequence();
    while (take(U"|")) {
        const Part right = sequence();
        std::vector<Instruction> code;
        // Chains to the left: a | b | c tries (a | b) before c, so each split is written in front of all before it.
        code.push_back({.op = Op::kSplit, .target = static_cast<std::int32_t>(left.code.size() + 2)});
        code.insert(code.end(), left.code.begin(), left.code.end());
        code.push_back({.op = Op::kJump, .target = static_cast<std::int32_t>(right.code.size() + 1)});
        code.insert(code.end(), right.code.begin(), right.code.end());
        check_size(code.size());
        left = {std::move(code), left.can_be_empty || right.can_be_empty};
    }
    return left;
}

RegexParser::Part RegexParser::sequence() {
    Part all;
    while (!at_end() && peek() != U'|' && peek() != U')') {
        Part part = item();
        while (const std::optional<Counts> found = counts()) {
            const bool possessive = take(U"+");
            if (peek() == U'?') refuse(ErrorCode::kUnsupported, "found a lazy repeat");
            part = repeated(std::move(part), *found, possessive);
        }
        all.code.insert(all.code.end(), part.code.begin(), part.code.end());
        all.can_be_empty = all.can_be_empty && part.can_be_empty;
        check_size(all.code.size());
    }
    return all;
}

std::optional<RegexParser::Counts> RegexParser::counts() {
    if (take(U"?")) return Counts{0, 1};
    if (take(U"*")) return Counts{0, kUnbounded};
    if (take(U"+")) return Counts{1, kUnbounded};
    if (!take(U"{")) return std::nullopt;
    Counts found{};
    const bool open_start = peek() == U',';
    found.least = open_start ? 0 : number();
    found.most = found.least;
    if (take(U",")) found.most = peek() == U'}' && !open_start ? kUnbounded : number();
    if (!take(U"}") || found.most < found.least) refuse(ErrorCode::kModelFile, "found broken counts");
    // Oniguruma's {m,n}+ repeats the repeat, where other dialects' is possessive.
    if (peek() == U'+') refuse(ErrorCode::kUnsupported, "found a repeat of a counted repeat");
    return found;
}

std::uint32_t RegexParser::number() {
    std::uint32_t value = 0;
    const std::size_t start = position_;
    while (peek() >= U'0' && peek() <= U'9' && value <= kLargestCount) value = value * 10 + (next() - U'0');
    if (position_ == start) refuse(ErrorCode::kModelFile, "found no number");
    if (value > kLargestCount) refuse(ErrorCode::kUnsupported, "found a count above " + std::to_string(kLargestCount));
    return value;
}

RegexParser::Part RegexParser::repeated(Part body, Counts counts, bool possessive) {
    const Op op = body.code.empty() ? Op::kAccept : body.code[0].op;
    if (body.code.size() == 1 && (op == Op::kCharacter || op == Op::kClass)) {
        if (op == Op::kCharacter) body = one(range_of(body.code[0].character, body.code[0].character));
        Instruction& only = body.code[0];
        only.op = Op::kRepeat;
        only.possessive = possessive;
        only.least = counts.least;
        only.most = counts.most;
        return {std::move(body.code), counts.least == 0};
    }
    if (possessive) refuse(ErrorCode::kUnsupported, "found a possessive repeat of a group");
    if (body.can_be_empty) refuse(ErrorCode::kUnsupported, "found a repeat of what may be empty");
    Part all;
    const auto append = [&] { all.code.insert(all.code.end(), body.code.begin(), body.code.end()); };
    const auto length = static_cast<std::int32_t>(body.code.size());
    for (std::uint32_t i = 0; i < counts.least; ++i, check_size(all.code.size())) append();
    if (counts.most == kUnbounded) {
        all.code.push_back({.op = Op::kSplit, .target = length + 2});
        append();
        all.code.push_back({.op = Op::kJump, .target = -length - 1});
    } else {
        for (std::uint32_t i = counts.least; i < counts.most; ++i, check_size(all.code.size())) {
            const auto left = static_cast<std::int32_t>(counts.most - i);
            all.code.push_back({.op = Op::kSplit, .target = left * (length + 1)});
            append();
        }
    }
    all.can_be_empty = counts.least == 0;
    return all;
}

RegexParser::Part RegexParser::one(CharacterClass members) {
    members.any_case = any_case_;
    if (any_case_) {
        for (const CharacterClass::Range& range : members.ranges) {
            if (range.last >= 128) refuse(ErrorCode::kUnsupported, "found (?i) with characters outside ASCII");
        }
    }
    std::bitset<128> ascii;
    for (char32_t code = 0; code < 128; ++code) ascii[code] = members.contains(code);
    regex_.sets_.push_back({std::move(members), ascii});
    const auto index = static_cast<std::uint32_t>(regex_.sets_.size() - 1);
    check_size(index);
    return {{{.op = Op::kClass, .set = index}}, false};
}

RegexParser::Part RegexParser::one(char32_t character) {
    const bool letter = fold_case(character) >= U'a' && fold_case(character) <= U'z';
    if (any_case_ && (letter || character >= 128)) return one(range_of(character, character));
    return {{{.op = Op::kCharacter, .character = character}}, false};
}

RegexParser::Part RegexParser::item() {
    const char32_t first = next();
    switch (first) {
        case U'(':
            return group();
        case U'[':
            return one(bracket());
        case U'\\': {
            CharacterClass members = escape();
            return is_one_character(members) ? one(members.ranges[0].first) : one(std::move(members));
        }
        case U'.': {
            CharacterClass members = range_of(U'\n', U'\n');
            members.negated = true;
            return one(std::move(members));
        }
        case U'?':
        case U'*':
        case U'+':
            refuse(ErrorCode::kModelFile, "found a repeat of nothing");
        case U'^':
        case U'$':
            refuse(ErrorCode::kUnsupported, "found an anchor");
        default:
            return one(first);
    }
}

RegexParser::Part RegexParser::group() {
    if (++depth_ > kDepth) refuse(ErrorCode::kUnsupported, "found groups that are nested too deeply");
    const bool outer_case = any_case_;
    bool look = false, negative = false;
    if (take(U"?")) {
        if (take(U"i:")) {
            any_case_ = true;
        } else if (take(U"!") || take(U"=")) {
            look = true;
            negative = pattern_[position_ - 1] == U'!';
        } else if (!take(U":")) {
            refuse(ErrorCode::kUnsupported, "found this kind of group");
        }
    }
    Part body = alternatives();
    if (!take(U")")) refuse(ErrorCode::kModelFile, "found ( without )");
    any_case_ = outer_case;
    --depth_;
    if (!look) return body;
    body.code.insert(
        body.code.begin(),
        {.op = Op::kLook, .negative = negative, .target = static_cast<std::int32_t>(body.code.size() + 2)});
    body.code.push_back({.op = Op::kAccept});
    return {std::move(body.code), true};
}

}  // namespace lrengine::text
