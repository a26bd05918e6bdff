// tokenizer.json files for tests: small, whole, and easy to break.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model_files.h"
#include "text/tokenizer.h"

namespace tokenizer_files {

using nlohmann::json;

inline std::string base64(std::string_view bytes) {
    constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::uint32_t three = 0;
        for (std::size_t j = 0; j < 3; ++j) {
            three = three << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
        }
        for (std::size_t j = 0; j < 4; ++j) {
            text += j <= bytes.size() - i ? kAlphabet[three >> (18 - 6 * j) & 63] : '=';
        }
    }
    return text;
}

// A charsmap of trie units and replacements.
inline std::string charsmap(const std::vector<std::uint32_t>& units, const std::string& replacements) {
    return model_files::bytes_of(std::vector<std::uint32_t>{static_cast<std::uint32_t>(units.size() * 4)}) +
           model_files::bytes_of(units) + replacements;
}

// One that makes "B" of "a": the root's children start at unit 0x100, and the value of "a" is at 0x101 ^ 0x161.
inline std::string small_charsmap(std::uint32_t value = 0) {
    std::vector<std::uint32_t> units(0x200, 0x80000000u);
    units[0] = 0x100u << 10;
    units[0x100 ^ 'a'] = 0x101u << 10 | 1u << 8 | 'a';
    units[0x100 ^ 'a' ^ 0x101] = 0x80000000u | value;
    return charsmap(units, std::string("B\0", 2));
}

inline json added(int id, const std::string& content, bool special) {
    return {{"id", id},        {"content", content}, {"single_word", false},  {"lstrip", false},
            {"rstrip", false}, {"special", special}, {"normalized", !special}};
}

// <s> 0, </s> 1, <unk> 2, ▁ 3, B 4, ▁B 5, b 6, bb 7; "a" becomes "B".
inline json unigram() {
    const json metaspace = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}};
    json file = {{"version", "1.0"}, {"pre_tokenizer", metaspace}, {"decoder", metaspace}};
    file["added_tokens"] = {added(0, "<s>", true), added(1, "</s>", true), added(2, "<unk>", true)};
    file["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", base64(small_charsmap())}};
    file["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single",
                               {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
                                {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                                {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}}},
                              {"special_tokens",
                               {{"<s>", {{"id", "<s>"}, {"ids", {0}}, {"tokens", {"<s>"}}}},
                                {"</s>", {{"id", "</s>"}, {"ids", {1}}, {"tokens", {"</s>"}}}}}}};
    json vocabulary = json::array();
    const std::vector<std::pair<std::string, double>> pieces = {
        {"<s>", 0.0}, {"</s>", 0.0}, {"<unk>", 0.0}, {"▁", -2.0}, {"B", -3.0}, {"▁B", -4.0}, {"b", -3.0}, {"bb", -4.0}};
    for (const auto& [piece, score] : pieces) vocabulary.push_back(json::array({piece, score}));
    file["model"] = {{"type", "Unigram"}, {"unk_id", 2}, {"byte_fallback", false}, {"vocab", vocabulary}};
    return file;
}

// </s> 0, a 1, b 2, Ġ 3, ab 4, Ġab 5; words in GPT-2's manner.
inline json bpe() {
    json file = {{"version", "1.0"}, {"added_tokens", {added(0, "</s>", true)}}};
    file["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}};
    file["decoder"] = {{"type", "ByteLevel"}};
    file["model"] = {{"type", "BPE"},
                     {"vocab", {{"</s>", 0}, {"a", 1}, {"b", 2}, {"Ġ", 3}, {"ab", 4}, {"Ġab", 5}}},
                     {"merges", {"a b", "Ġ ab"}}};
    return file;
}

inline std::unique_ptr<lrengine::Tokenizer> load_text(const std::string& text) {
    const model_files::TemporaryDirectory directory;
    directory.write("tokenizer.json", text);
    return lrengine::Tokenizer::load(directory.path());
}

inline std::unique_ptr<lrengine::Tokenizer> load(const json& file) { return load_text(file.dump()); }

}  // namespace tokenizer_files
