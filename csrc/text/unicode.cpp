#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <map>

#include "text/unicode_data.h"

namespace lrengine::text {

namespace {

// Length of the well-formed sequence at `position`, 0 if there is none; `bad` is then the length of its maximal part.
std::size_t sequence_length(std::string_view bytes, std::size_t position, std::size_t& bad) {
    const auto byte = [&](std::size_t i) -> unsigned {
        return position + i < bytes.size() ? static_cast<unsigned char>(bytes[position + i]) : 0;
    };
    const unsigned first = byte(0);
    bad = 1;
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    // Overlong forms, surrogates and what is past U+10FFFF show in the second byte (Unicode, table 3-7).
    const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (byte(1) < low || byte(1) > high) return 0;
    for (bad = 2; bad < length; ++bad) {
        if ((byte(bad) & 0xC0) != 0x80) return 0;
    }
    return length;
}

}  // namespace

void append_character(std::string& text, char32_t code) {
    const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | code >> 6);
        put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(0xE0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    } else {
        put(0xF0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3F));
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    }
}

bool is_well_formed(std::string_view bytes) {
    std::size_t bad = 0;
    for (std::size_t i = 0; i < bytes.size();) {
        const std::size_t length = sequence_length(bytes, i, bad);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

std::string replace_malformed(std::string_view bytes) {
    std::string text;
    text.reserve(bytes.size());
    std::size_t bad = 0;
    for (std::size_t i = 0; i < bytes.size();) {
        const std::size_t length = sequence_length(bytes, i, bad);
        if (length == 0) {
            append_character(text, kReplacementCharacter);
            i += bad;
        } else {
            text.append(bytes, i, length);
            i += length;
        }
    }
    return text;
}

CodePointTable::CodePointTable(std::span<const std::uint32_t> runs, int shift) {
    std::map<std::array<std::uint8_t, 256>, std::uint16_t> known;
    std::array<std::uint8_t, 256> block;
    std::size_t run = 0;
    for (std::uint32_t code = 0; code < 0x110000; ++code) {
        while (run + 1 < runs.size() && (runs[run + 1] >> shift) <= code) ++run;
        block[code & 0xFF] = static_cast<std::uint8_t>(runs[run] & ((1u << shift) - 1));
        if ((code & 0xFF) != 0xFF) continue;
        const auto [place, is_new] = known.try_emplace(block, static_cast<std::uint16_t>(known.size()));
        if (is_new) values_.insert(values_.end(), block.begin(), block.end());
        blocks_.push_back(place->second);
    }
}

const CodePointTable& category_table() {
    static const CodePointTable table(data::categories, 7);
    return table;
}

}  // namespace lrengine::text
