// UTF-8 and the properties of characters that tokenizers look at. Text inside csrc/text is always well-formed UTF-8:
// encode() replaces what is not, and JSON strings are checked when they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lrengine::text {

constexpr char32_t kReplacementCharacter = 0xFFFD;

// The character that starts at `position` of well-formed text; moves `position` behind it.
inline char32_t next_character(std::string_view text, std::size_t& position) {
    const auto byte = [&](std::size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
    const char32_t first = byte(position++);
    if (first < 0x80) return first;
    const int more = first < 0xE0 ? 1 : first < 0xF0 ? 2 : 3;
    char32_t code = first & (0x3Fu >> more);
    for (int i = 0; i < more; ++i) code = code << 6 | (byte(position++) & 0x3F);
    return code;
}

// Bytes of the character that `first` begins.
inline std::size_t character_bytes(char first) {
    const auto byte = static_cast<unsigned char>(first);
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// The character that ends before `position` (> 0) of well-formed text; moves `position` to its start.
inline char32_t previous_character(std::string_view text, std::size_t& position) {
    do --position;
    while ((static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
    std::size_t start = position;
    return next_character(text, start);
}

void append_character(std::string& text, char32_t code);

bool is_well_formed(std::string_view bytes);
// `bytes` with every maximal piece of an ill-formed sequence as one U+FFFD (Unicode 3.9, D93b): what Python's
// decode("utf-8", "replace") and Rust's from_utf8_lossy give.
std::string replace_malformed(std::string_view bytes);

// In the order of generate_unicode.py.
enum class Category : std::uint8_t {
    kCn,
    kLu,
    kLl,
    kLt,
    kLm,
    kLo,
    kMn,
    kMc,
    kMe,
    kNd,
    kNl,
    kNo,
    kPc,
    kPd,
    kPs,
    kPe,
    kPi,
    kPf,
    kPo,
    kSm,
    kSc,
    kSk,
    kSo,
    kZs,
    kZl,
    kZp,
    kCc,
    kCf,
    kCo,
    kCs,
};

// A value for each code point in blocks of 256 that are shared where they are equal.
class CodePointTable {
public:
    // Sorted runs of first code point << shift | value.
    CodePointTable(std::span<const std::uint32_t> runs, int shift);

    std::uint8_t operator[](char32_t code) const {
        return values_[std::size_t{blocks_[code >> 8]} << 8 | (code & 0xFF)];
    }

private:
    std::vector<std::uint16_t> blocks_;
    std::vector<std::uint8_t> values_;
};

// General category, and two bits for the properties below it.
const CodePointTable& category_table();

inline Category category(char32_t code) { return static_cast<Category>(category_table()[code] & 31); }
// \w as words around added tokens have it (UTS 18: letters, marks, digits, joiners), and as Oniguruma's patterns do
// (all numbers, no joiners).
inline bool is_word(char32_t code) { return (category_table()[code] & 32) != 0; }
inline bool is_word_in_patterns(char32_t code) { return (category_table()[code] & 64) != 0; }
// White_Space: \s and Rust's is_whitespace.
inline bool is_space(char32_t code) {
    if (code < 0x80) return code == ' ' || (code >= 9 && code <= 13);
    return code == 0x85 || code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

// Where the extended grapheme cluster that starts at `start` ends (UAX 29).
std::size_t grapheme_end(std::string_view text, std::size_t start);

}  // namespace lrengine::text
