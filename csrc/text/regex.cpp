#include "text/regex.h"

#include "core/error.h"
#include "text/regex_parser.h"
#include "text/unicode.h"

namespace lrengine::text {

bool CharacterClass::contains(char32_t code) const {
    bool found = (categories >> static_cast<int>(category(code)) & 1) != 0 || (space && is_space(code)) ||
                 (word && is_word_in_patterns(code));
    for (const Range& range : ranges) found = found || (code >= range.first && code <= range.last);
    if (any_case && !found) {
        for (const Range& range : ranges) {
            // Ranges that ignore case are short and ASCII: the parser refuses others.
            for (char32_t own = range.first; own <= range.last && !found; ++own) {
                found = fold_case(own) == fold_case(code);
            }
        }
    }
    for (const CharacterClass& inner : nested) found = found || inner.contains(code);
    return found != negated;
}

Regex::Regex(std::string_view pattern) { RegexParser(pattern, *this).parse(); }

std::vector<Regex::Span> Regex::find_all(std::string_view text) const {
    constexpr std::size_t kStepsPerByte = 256, kLeastBytes = 16;
    std::size_t steps = kStepsPerByte * (text.size() + kLeastBytes);
    std::vector<Span> found;
    std::vector<Choice> choices;
    for (std::size_t position = 0; position < text.size();) {
        const std::optional<std::size_t> end = match(text, position, 0, choices, steps);
        if (end) {
            found.emplace_back(position, *end);
            position = *end;
        } else {
            position += character_bytes(text[position]);
        }
    }
    return found;
}

// Takes as many characters of the set as allowed; nothing if there are too few. `least_end` is where the fewest end.
std::optional<std::size_t> Regex::repeat(const Instruction& instruction, std::string_view text, std::size_t position,
                                         std::size_t& least_end, std::size_t& steps) const {
    const Set& set = sets_[instruction.set];
    std::uint32_t count = 0;
    least_end = position;
    while (count < instruction.most && position < text.size() && steps > 0) {
        std::size_t next = position;
        if (!contains(set, next_character(text, next))) break;
        position = next;
        --steps;
        if (++count == instruction.least) least_end = position;
    }
    if (count < instruction.least) return std::nullopt;
    return position;
}

std::optional<std::size_t> Regex::match(std::string_view text, std::size_t position, std::size_t instruction,
                                        std::vector<Choice>& choices, std::size_t& steps) const {
    const std::size_t bottom = choices.size();
    while (true) {
        if (steps == 0) {
            fail(ErrorCode::kInvalidArgument, "text: found one that the tokenizer's pattern takes too many steps for");
        }
        --steps;
        const Instruction& current = program_[instruction];
        bool fits = false;
        switch (current.op) {
            case Op::kCharacter:
            case Op::kClass: {
                if (position == text.size()) break;
                std::size_t next = position;
                const char32_t code = next_character(text, next);
                fits = current.op == Op::kCharacter ? code == current.character : contains(sets_[current.set], code);
                if (fits) position = next;
                break;
            }
            case Op::kRepeat: {
                std::size_t least_end = 0;
                const std::optional<std::size_t> end = repeat(current, text, position, least_end, steps);
                fits = end.has_value();
                if (fits && !current.possessive && *end > least_end)
                    choices.push_back({instruction + 1, *end, least_end});
                if (fits) position = *end;
                break;
            }
            case Op::kSplit:
                choices.push_back({instruction + current.target, position, position});
                fits = true;
                break;
            case Op::kJump:
                instruction += current.target - 1;
                fits = true;
                break;
            case Op::kLook:
                fits = match(text, position, instruction + 1, choices, steps).has_value() != current.negative;
                if (fits) instruction += current.target - 1;
                break;
            case Op::kAccept:
                choices.resize(bottom);
                return position;
        }
        if (fits) {
            ++instruction;
            continue;
        }
        if (choices.size() == bottom) return std::nullopt;
        Choice& choice = choices.back();
        instruction = choice.instruction;
        position = choice.position;
        if (position > choice.least) {
            previous_character(text, position);  // a repeat gives one back
            choice.position = position;
            if (position == choice.least) choices.pop_back();
        } else {
            choices.pop_back();
        }
    }
}

}  // namespace lrengine::text
