// The regular expressions that tokenizer files split text with: literals, classes, \p{L} and other general categories,
// \s \S \d \D \w \W, negation, ? + * {m,n} (greedy; possessive behind one character), alternation, groups, (?i:...),
// (?=...) and (?!...). Meanings follow Oniguruma, which Hugging Face `tokenizers` uses. Back references, lazy repeats,
// anchors, look-behind and a pattern that matches the empty text are refused.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lrengine::text {

// A set of characters.
struct CharacterClass {
    struct Range {
        char32_t first, last;
    };

    std::vector<Range> ranges;
    std::uint32_t categories = 0;  // bit n: general category n
    bool space = false;            // White_Space
    bool word = false;
    std::vector<CharacterClass> nested;  // \S, \P{L}, [^...] inside a class
    bool negated = false;
    bool any_case = false;

    bool contains(char32_t code) const;
};

// Immutable: one may be used by several threads.
class Regex {
public:
    using Span = std::pair<std::size_t, std::size_t>;  // [begin, end) in bytes

    // Throws Error(kModelFile) for broken syntax and Error(kUnsupported) for what is not in the list above.
    explicit Regex(std::string_view pattern);

    // Matches from left to right that do not overlap. Throws Error(kInvalidArgument) when the pattern needs more than
    // some hundred steps a byte: no pattern in use does, and a hostile one must not hang.
    std::vector<Span> find_all(std::string_view text) const;

private:
    friend class RegexParser;

    enum class Op : std::uint8_t { kCharacter, kClass, kRepeat, kSplit, kJump, kLook, kAccept };
    struct Instruction {
        Op op;
        bool possessive = false;  // kRepeat
        bool negative = false;    // kLook
        char32_t character = 0;   // kCharacter
        std::uint32_t set = 0;    // kClass, kRepeat
        std::uint32_t least = 0;  // kRepeat
        std::uint32_t most = 0;   // kRepeat
        std::int32_t target = 0;  // kSplit: the second choice; kJump; kLook: behind the body. Relative
    };
    struct Set {
        CharacterClass members;
        std::bitset<128> ascii;
    };
    struct Choice {  // a place to go on from when the path taken fails
        std::size_t instruction;
        std::size_t position;
        std::size_t least;  // kRepeat gives characters back until here
    };

    bool contains(const Set& set, char32_t code) const {
        return code < 128 ? set.ascii[code] : set.members.contains(code);
    }
    std::optional<std::size_t> match(std::string_view text, std::size_t position, std::size_t instruction,
                                     std::vector<Choice>& choices, std::size_t& steps) const;
    std::optional<std::size_t> repeat(const Instruction& instruction, std::string_view text, std::size_t position,
                                      std::size_t& least_end, std::size_t& steps) const;

    std::vector<Instruction> program_;
    std::vector<Set> sets_;
};

}  // namespace lrengine::text
