// Extended grapheme clusters, UAX 29, rules GB3 to GB999.
#include "text/unicode.h"
#include "text/unicode_data.h"

namespace lrengine::text {

namespace {

// In the order of generate_unicode.py; the last five stand for characters whose own break is Other (or Extend, for
// linkers) and which the rules for emoji and for Indic conjuncts ask about; syllables are computed.
enum Break : std::uint8_t {
    kOther,
    kCr,
    kLf,
    kControl,
    kExtend,
    kZwj,
    kRegional,
    kPrepend,
    kSpacingMark,
    kLead,
    kVowel,
    kTrail,
    kPictograph,
    kConsonant,
    kLinker,
    kSyllable,
    kClosedSyllable,
};

Break break_of(char32_t code) {
    static const CodePointTable table(data::breaks, 4);
    if (code >= 0xAC00 && code < 0xD7A4) return (code - 0xAC00) % 28 == 0 ? kSyllable : kClosedSyllable;
    return static_cast<Break>(table[code]);
}

bool is_extend(Break value) { return value == kExtend || value == kLinker; }

// What the rules need to know of the cluster so far, beyond its last character.
struct Before {
    int regionals = 0;          // GB12, GB13: regional indicators in a row
    bool pictograph = false;    // GB11: a pictograph, then only Extend
    bool joined_emoji = false;  // ... then a joiner
    bool conjunct = false;      // GB9c: a consonant, then only Extend, linkers and joiners
    bool linked = false;        // ... of which one is a linker

    void add(Break value) {
        regionals = value == kRegional ? regionals + 1 : 0;
        joined_emoji = pictograph && value == kZwj;
        pictograph = value == kPictograph || (pictograph && is_extend(value));
        linked = (conjunct && linked && (is_extend(value) || value == kZwj)) || (conjunct && value == kLinker);
        conjunct = value == kConsonant || (conjunct && (is_extend(value) || value == kZwj));
    }
};

bool breaks_between(Break left, Break right, const Before& before) {
    if (left == kCr) return right != kLf;                                // GB3, GB4
    if (left == kLf || left == kControl) return true;                    // GB4
    if (right == kCr || right == kLf || right == kControl) return true;  // GB5
    if (left == kLead && (right == kLead || right == kVowel || right == kSyllable || right == kClosedSyllable)) {
        return false;  // GB6
    }
    if ((left == kSyllable || left == kVowel) && (right == kVowel || right == kTrail)) return false;  // GB7
    if ((left == kClosedSyllable || left == kTrail) && right == kTrail) return false;                 // GB8
    if (is_extend(right) || right == kZwj || right == kSpacingMark) return false;                     // GB9, GB9a
    if (left == kPrepend) return false;                                                               // GB9b
    if (before.linked && right == kConsonant) return false;                                           // GB9c
    if (before.joined_emoji && right == kPictograph) return false;                                    // GB11
    return !(left == kRegional && right == kRegional && before.regionals % 2 == 1);                   // GB12, GB13
}

}  // namespace

std::size_t grapheme_end(std::string_view text, std::size_t start) {
    Before before;
    Break left = break_of(next_character(text, start));
    before.add(left);
    while (start < text.size()) {
        std::size_t end = start;
        const Break right = break_of(next_character(text, end));
        if (breaks_between(left, right, before)) break;
        before.add(right);
        left = right;
        start = end;
    }
    return start;
}

}  // namespace lrengine::text
