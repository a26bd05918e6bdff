// The patterns of tokenizer files: what matches where; what is refused; and that none can hang.
#include <random>

#include "core/error.h"
#include "harness.h"
#include "text/regex.h"

using namespace lrengine;
using text::Regex;

namespace {

// The matches, each in brackets, and what lies between.
std::string marked(const std::string& pattern, const std::string& text) {
    std::string result;
    std::size_t done = 0;
    for (const auto& [begin, end] : Regex(pattern).find_all(text)) {
        result += text.substr(done, begin - done) + '[' + text.substr(begin, end - begin) + ']';
        done = end;
    }
    return result + text.substr(done);
}

}  // namespace

TEST(literals_classes_and_escapes_match) {
    CHECK_EQUAL(marked("ab", "xabab"), "x[ab][ab]");
    CHECK_EQUAL(marked("[a-cx]", "abdx"), "[a][b]d[x]");
    CHECK_EQUAL(marked("[^a-c]", "adé"), "a[d][é]");
    CHECK_EQUAL(marked("[-a]", "-ab"), "[-][a]b");
    CHECK_EQUAL(marked("[]a]", "]b"), "[]]b");
    CHECK_EQUAL(marked("\\.\\u0041\\x42\\x{1F600}", ".AB\U0001F600"), "[.AB\U0001F600]");
    CHECK_EQUAL(marked("[\\x{4e00}-\\x{9fff}]+", "a中文b"), "a[中文]b");
    CHECK_EQUAL(marked("a.", "a\na\u2028"), "a\n[a\u2028]");
}

TEST(properties_and_white_space_match) {
    CHECK_EQUAL(marked("\\p{L}+", "abé中1²"), "[abé中]1²");
    CHECK_EQUAL(marked("\\p{N}+", "a1²Ⅳ"), "a[1²Ⅳ]");
    CHECK_EQUAL(marked("\\P{L}", "a1"), "a[1]");
    CHECK_EQUAL(marked("\\p{^Lu}", "Aa"), "A[a]");
    CHECK_EQUAL(marked("[\\s\\p{Lu}]+", "a \u3000Bc"), "a[ \u3000B]c");
    CHECK_EQUAL(marked("[^\\S\\n]+", "a \n\tb"), "a[ ]\n[\t]b");
    CHECK_EQUAL(marked("[^\\r\\n\\P{L}]+", "a1\nb"), "[a]1\n[b]");
}

TEST(repeats_take_the_most_that_lets_the_rest_match) {
    CHECK_EQUAL(marked("a?b", "aab"), "a[ab]");
    CHECK_EQUAL(marked("a*ab", "aaab"), "[aaab]");
    CHECK_EQUAL(marked("a{1,3}", "aaaaa"), "[aaa][aa]");
    CHECK_EQUAL(marked("a{2}", "aaaaa"), "[aa][aa]a");
    CHECK_EQUAL(marked("a{2,}", "aaaaa a"), "[aaaaa] a");
    CHECK_EQUAL(marked("(?:ab)+a", "ababab"), "[ababa]b");
    CHECK_EQUAL(marked("(ab|c){1,2}", "abcab"), "[abc][ab]");
    CHECK_EQUAL(marked("a++a|b", "aaab"), "aaa[b]");
}

TEST(alternatives_are_tried_in_order) {
    CHECK_EQUAL(marked("a|ab|c", "abc"), "[a]b[c]");
    CHECK_EQUAL(marked("(?:a|ab)c|x", "abcx"), "[abc][x]");
    CHECK_EQUAL(marked("(?i:'s|'ll)", "'S'Ll'x'\u017F"), "['S]['Ll]'x['\u017F]");
    CHECK_EQUAL(marked("(?i)k", "kK\u212A"), "[k][K][\u212A]");
}

TEST(looking_ahead_takes_nothing) {
    CHECK_EQUAL(marked("\\s+(?!\\S)|\\s+", "a   b  "), "a[  ][ ]b[  ]");
    CHECK_EQUAL(marked("a(?=b)", "abac"), "[a]bac");
    CHECK_EQUAL(marked("a(?!b(?=c))", "abcab"), "abc[a]b");
}

TEST(broken_patterns_are_refused) {
    for (const char* pattern :
         {"(a", "a)", "[a", "a{2", "a{3,2}", "*a", "\\p{L", "[b-a]", "\\x{110000}", "a\\", "[a-\\d]"}) {
        CHECK_ERROR(Regex(std::string(pattern)), ErrorCode::kModelFile, "pattern \"");
    }
}

TEST(what_is_not_read_is_refused) {
    for (const char* pattern :
         {"a*?",    "a*",     "",         "a|",      "(?<=a)b", "(?<name>a)", "(?>a)",
          "^a",     "a$",     "\\p{Han}", "\\p{Xx}", "\\bword", "(a)\\1",     "[[:alpha:]]",
          "[a&&b]", "(?i:é)", "(?:a*)+b", "a{2}+",   "a{1001}", "(?:ab)++",   "((((a{100}b){100}c){100}))"}) {
        CHECK_ERROR(Regex(std::string(pattern)), ErrorCode::kUnsupported, "pattern \"");
    }
    CHECK_ERROR(Regex(std::string(100'000, '(')), ErrorCode::kUnsupported, "nested");
    CHECK_ERROR(Regex(std::string(100'000, '[')), ErrorCode::kUnsupported, "nested");
    CHECK_ERROR(Regex(std::string(100'000, 'a')), ErrorCode::kUnsupported, "too large");
}

TEST(no_pattern_can_hang) {
    const std::string text(200, 'a');
    for (const char* pattern : {"(?:a|a)+b", "(?:a+)+b", "(?:a{1,50}){1,50}b", "(?=(?:a|aa)+b)a"}) {
        CHECK_ERROR(Regex(std::string(pattern)).find_all(text), ErrorCode::kInvalidArgument, "too many steps");
    }
    // What real patterns do with long runs is linear.
    const std::string blanks(1'000'000, ' ');
    CHECK_EQUAL(Regex("\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+").find_all(blanks + "x").size(), std::size_t{2});
}

TEST(patterns_of_random_signs_match_or_are_refused) {
    const std::string signs = "ab\\[](){}|?*+^-,:!=<>12pLsSuxi.$& \n";
    std::mt19937 random(7);
    int read = 0;
    for (int i = 0; i < 30'000; ++i) {
        std::string pattern;
        for (std::size_t length = random() % 12 + 1; length > 0; --length) pattern += signs[random() % signs.size()];
        try {
            const Regex regex(pattern);
            ++read;
            for (const auto& [begin, end] : regex.find_all("ab1 L\n-é(]a")) CHECK(begin < end);
        } catch (const Error& error) {
            CHECK(error.code() != ErrorCode::kInternal);
        }
    }
    CHECK(read > 1000);
}
