#include "text/normal_forms.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "text/unicode.h"
#include "text/unicode_data.h"

namespace lrengine::text {

namespace {

// Hangul syllables are computed (Unicode 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28, kSyllableCount = 11172;
constexpr std::uint32_t kComposes = 1u << 31;

struct Tables {
    struct Pair {
        char32_t first, second;
    };
    std::unordered_map<char32_t, Pair> canonical;
    std::unordered_map<char32_t, std::u32string> compatibility;
    std::unordered_map<std::uint64_t, char32_t> composed;
    std::unordered_map<char32_t, char32_t> lower;
    CodePointTable combining_class{data::combining_classes, 8};

    Tables() {
        for (std::size_t i = 0; i < data::canonical.size(); i += 3) {
            const char32_t code = data::canonical[i] & ~kComposes;
            const Pair pair = {data::canonical[i + 1], data::canonical[i + 2]};
            canonical.emplace(code, pair);
            if ((data::canonical[i] & kComposes) != 0) composed.emplace(key(pair.first, pair.second), code);
        }
        for (std::size_t i = 0; i < data::compatibility.size();) {
            const char32_t code = data::compatibility[i] >> 8;
            const std::size_t length = data::compatibility[i] & 0xFF;
            const auto* text = data::compatibility.data() + i + 1;
            compatibility.emplace(code, std::u32string(text, text + length));
            i += 1 + length;
        }
        for (std::size_t i = 0; i < data::lower_case.size(); i += 4) {
            for (std::uint32_t code = data::lower_case[i]; code <= data::lower_case[i + 1];
                 code += data::lower_case[i + 2]) {
                lower.emplace(code, code + data::lower_case[i + 3]);
            }
        }
    }

    static std::uint64_t key(char32_t first, char32_t second) { return std::uint64_t{first} << 32 | second; }
};

const Tables& tables() {
    static const Tables all;
    return all;
}

void decompose(char32_t code, bool compatible, std::u32string& result) {
    if (code < 0x80) {
        result.push_back(code);
        return;
    }
    if (code >= kSyllables && code < kSyllables + kSyllableCount) {
        const char32_t index = code - kSyllables, trail = index % kTrailCount;
        result.push_back(kLeads + index / (kVowelCount * kTrailCount));
        result.push_back(kVowels + index % (kVowelCount * kTrailCount) / kTrailCount);
        if (trail != 0) result.push_back(kTrails + trail);
        return;
    }
    if (compatible) {
        if (const auto found = tables().compatibility.find(code); found != tables().compatibility.end()) {
            result += found->second;
            return;
        }
    }
    const auto found = tables().canonical.find(code);
    if (found == tables().canonical.end()) {
        result.push_back(code);
        return;
    }
    decompose(found->second.first, compatible, result);
    if (found->second.second != 0) decompose(found->second.second, compatible, result);
}

// Marks by their class, equal ones as they stood (UAX 15, D109).
void order_marks(std::u32string& text) {
    const CodePointTable& classes = tables().combining_class;
    for (auto begin = text.begin(); begin != text.end();) {
        if (classes[*begin] == 0) {
            ++begin;
            continue;
        }
        const auto end = std::find_if(begin, text.end(), [&](char32_t code) { return classes[code] == 0; });
        std::stable_sort(begin, end, [&](char32_t a, char32_t b) { return classes[a] < classes[b]; });
        begin = end;
    }
}

// The character that two make, 0 if none.
char32_t composition(char32_t first, char32_t second) {
    if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels && second < kVowels + kVowelCount) {
        return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTrailCount;
    }
    if (first >= kSyllables && first < kSyllables + kSyllableCount && (first - kSyllables) % kTrailCount == 0 &&
        second > kTrails && second < kTrails + kTrailCount) {
        return first + (second - kTrails);
    }
    const auto found = tables().composed.find(Tables::key(first, second));
    return found == tables().composed.end() ? 0 : found->second;
}

// UAX 15, D117: a mark joins the last starter unless something of its class or above stands between.
std::u32string compose(const std::u32string& text) {
    const CodePointTable& classes = tables().combining_class;
    std::u32string result;
    std::size_t starter = std::u32string::npos;
    int last_class = 0;
    for (const char32_t code : text) {
        const int own = classes[code];
        const bool adjacent = starter != std::u32string::npos && starter + 1 == result.size();
        if (starter != std::u32string::npos && (adjacent || last_class < own)) {
            if (const char32_t joined = composition(result[starter], code)) {
                result[starter] = joined;
                continue;
            }
        }
        if (own == 0) starter = result.size();
        last_class = own;
        result.push_back(code);
    }
    return result;
}

}  // namespace

std::string normal_form(std::string_view text, NormalForm form) {
    if (std::all_of(text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x80; })) {
        return std::string(text);
    }
    const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
    std::u32string characters;
    for (std::size_t i = 0; i < text.size();) decompose(next_character(text, i), compatible, characters);
    order_marks(characters);
    if (form == NormalForm::kNfc || form == NormalForm::kNfkc) characters = compose(characters);
    std::string result;
    result.reserve(text.size());
    for (const char32_t code : characters) append_character(result, code);
    return result;
}

std::string lower_case(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const char32_t code = next_character(text, i);
        if (code == 0x130) {  // the one that becomes two (SpecialCasing.txt)
            result += "i\xCC\x87";
            continue;
        }
        const auto found = tables().lower.find(code);
        append_character(result, found == tables().lower.end() ? code : found->second);
    }
    return result;
}

}  // namespace lrengine::text
