// The parts of patterns that stand for one character: brackets, escapes, properties.
#include "text/regex_parser.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// Bits of a general category ("Lu") or of all that begin with a letter ("L"); 0 for an unknown name.
std::uint32_t categories_named(const std::u32string& name) {
    constexpr std::u32string_view kNames = U"CnLuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCoCs";
    std::uint32_t bits = 0;
    if (name.empty() || name.size() > 2) return 0;
    for (std::size_t i = 0; i < kNames.size(); i += 2) {
        if (kNames.substr(i, name.size()) == name) bits |= 1u << (i / 2);
    }
    return bits;
}

}  // namespace

CharacterClass RegexParser::bracket() {
    if (++depth_ > kDepth) refuse(ErrorCode::kUnsupported, "found classes that are nested too deeply");
    CharacterClass members;
    members.negated = take(U"^");
    for (bool first = true; first || peek() != U']'; first = false) {
        const char32_t start = next();
        if (start == U'[') {
            if (peek() == U':') refuse(ErrorCode::kUnsupported, "found a POSIX bracket");
            members.nested.push_back(bracket());
            continue;
        }
        if (start == U'&' && peek() == U'&') refuse(ErrorCode::kUnsupported, "found an intersection");
        CharacterClass part = start == U'\\' ? escape() : range_of(start, start);
        if (is_one_character(part) && peek() == U'-' && position_ + 1 < pattern_.size() &&
            pattern_[position_ + 1] != U']') {
            take(U"-");
            const char32_t last = next();
            const CharacterClass end = last == U'\\' ? escape() : range_of(last, last);
            if (!is_one_character(end) || end.ranges[0].first < part.ranges[0].first) {
                refuse(ErrorCode::kModelFile, "found a broken range");
            }
            part.ranges[0].last = end.ranges[0].first;
        }
        if (part.negated) {
            members.nested.push_back(std::move(part));
        } else {
            members.ranges.insert(members.ranges.end(), part.ranges.begin(), part.ranges.end());
            members.categories |= part.categories;
            members.space = members.space || part.space;
            members.word = members.word || part.word;
        }
    }
    take(U"]");
    --depth_;
    return members;
}

CharacterClass RegexParser::escape() {
    const char32_t letter = next();
    CharacterClass members;
    switch (letter) {
        case U'n':
            return range_of(U'\n', U'\n');
        case U'r':
            return range_of(U'\r', U'\r');
        case U't':
            return range_of(U'\t', U'\t');
        case U'f':
            return range_of(U'\f', U'\f');
        case U'v':
            return range_of(U'\v', U'\v');
        case U's':
        case U'S':
            members.space = true;
            break;
        case U'd':
        case U'D':
            members.categories = categories_named(U"Nd");
            break;
        case U'w':
        case U'W':
            members.word = true;
            break;
        case U'p':
        case U'P':
            return property(letter == U'P');
        case U'u':
        case U'x': {
            const char32_t code = hexadecimal();
            return range_of(code, code);
        }
        default:
            if ((letter < 128 && is_word(letter)) || letter >= 128) {
                refuse(ErrorCode::kUnsupported, "found an escape of this kind");
            }
            return range_of(letter, letter);
    }
    members.negated = letter < U'a';
    return members;
}

// \u1234, \x12 or \x{12345}, behind the letter.
char32_t RegexParser::hexadecimal() {
    const bool braces = take(U"{");
    const std::size_t digits = braces ? 8 : pattern_[position_ - 1] == U'u' ? 4 : 2;
    char32_t code = 0;
    for (std::size_t i = 0; i < digits && !(braces && peek() == U'}'); ++i) {
        const char32_t digit = fold_case(next());
        if (!((digit >= U'0' && digit <= U'9') || (digit >= U'a' && digit <= U'f'))) {
            refuse(ErrorCode::kModelFile, "found a broken code point");
        }
        code = code << 4 | (digit <= U'9' ? digit - U'0' : digit - U'a' + 10);
    }
    if ((braces && !take(U"}")) || code > 0x10FFFF) refuse(ErrorCode::kModelFile, "found a broken code point");
    return code;
}

// {L}, {^Lu}, behind \p or \P.
CharacterClass RegexParser::property(bool negated) {
    if (!take(U"{")) refuse(ErrorCode::kUnsupported, "found \\p without {");
    if (take(U"^")) negated = !negated;
    std::u32string name;
    while (peek() != U'}') name.push_back(next());
    take(U"}");
    CharacterClass members;
    members.categories = categories_named(name);
    members.negated = negated;
    if (members.categories == 0) refuse(ErrorCode::kUnsupported, "found a property that is not a general category");
    return members;
}

}  // namespace lrengine::text
