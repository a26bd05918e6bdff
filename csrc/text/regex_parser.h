// Regular expressions from text to the matcher's program: one pass, recursive descent. Used by regex.cpp alone.
// regex_parser.cpp reads groups and repeats, regex_classes.cpp what stands for one character.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/regex.h"

namespace lrengine::text {

// ASCII letters fold; so do the two letters outside ASCII whose case folding is ASCII (CaseFolding.txt).
constexpr char32_t fold_case(char32_t code) {
    if (code == 0x017F) return 's';
    if (code == 0x212A) return 'k';
    return code >= 'A' && code <= 'Z' ? code + 32 : code;
}

inline CharacterClass range_of(char32_t first, char32_t last) { return {.ranges = {{first, last}}, .nested = {}}; }

inline bool is_one_character(const CharacterClass& members) {
    return members.ranges.size() == 1 && members.ranges[0].first == members.ranges[0].last && members.categories == 0 &&
           !members.space && !members.word && members.nested.empty() && !members.negated;
}

class RegexParser {
public:
    RegexParser(std::string_view pattern, Regex& regex);
    // Fills the regex.
    void parse();

private:
    using Instruction = Regex::Instruction;
    using Op = Regex::Op;
    static constexpr int kDepth = 32;  // groups and classes in each other
    struct Part {
        std::vector<Instruction> code;
        bool can_be_empty = true;
    };
    struct Counts {
        std::uint32_t least, most;
    };

    Part alternatives();
    Part sequence();
    Part item();
    Part group();
    Part repeated(Part body, Counts counts, bool possessive);
    std::optional<Counts> counts();
    Part one(CharacterClass members);
    Part one(char32_t character);
    CharacterClass bracket();
    CharacterClass escape();
    CharacterClass property(bool negated);
    char32_t hexadecimal();
    std::uint32_t number();

    bool at_end() const { return position_ == pattern_.size(); }
    char32_t peek() const { return at_end() ? 0 : pattern_[position_]; }
    bool take(std::u32string_view text);
    char32_t next();
    void check_size(std::size_t size) const;
    [[noreturn]] void refuse(ErrorCode code, const std::string& what) const;

    std::string shown_;
    std::u32string pattern_;
    std::size_t position_ = 0;
    int depth_ = 0;
    bool any_case_ = false;
    Regex& regex_;
};

}  // namespace lrengine::text
