#include "text/charsmap.h"

#include "core/error.h"
#include "text/growth.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// A unit: bits 0 to 7 and 31 are the label, bit 8 says that a value is at its offset, bits 10 to 30 (times 256 with
// bit 9) are the offset; a value is 31 bits.
std::uint32_t label(std::uint32_t unit) { return unit & (1u << 31 | 0xFF); }
bool has_value(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
std::uint32_t offset(std::uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& file) {
    const auto word = [&](std::size_t at) {
        std::uint32_t value = 0;
        for (std::size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
        return value;
    };
    const auto refuse = [&](const std::string& found) {
        fail(ErrorCode::kModelFile, file + ": precompiled_charsmap: found " + found);
    };
    if (bytes.size() < 4) refuse("fewer than 4 bytes");
    const std::size_t size = word(0);
    if (size % 4 != 0 || size > bytes.size() - 4) {
        refuse("a trie of " + std::to_string(size) + " bytes in " + std::to_string(bytes.size() - 4));
    }
    for (std::size_t i = 0; i < size / 4; ++i) units_.push_back(word(4 + 4 * i));
    replacements_ = bytes.substr(4 + size);
    if (!is_well_formed(replacements_)) refuse("replacements that are not UTF-8");
    for (int byte = 0; byte < 128; ++byte) {
        const char text = static_cast<char>(byte);
        changes_ascii_[byte] = replacement({&text, 1}).has_value();
    }
}

// The replacement of the shortest beginning of `piece` that the map has.
std::optional<std::string_view> Charsmap::replacement(std::string_view piece) const {
    if (units_.empty()) return std::nullopt;
    std::uint32_t node = offset(units_[0]);
    for (const char byte : piece) {
        const std::uint32_t wanted = static_cast<unsigned char>(byte);
        if (wanted == 0) return std::nullopt;
        node ^= wanted;
        if (node >= units_.size() || label(units_[node]) != wanted) return std::nullopt;
        const std::uint32_t unit = units_[node];
        node ^= offset(unit);
        if (!has_value(unit)) continue;
        if (node >= units_.size()) return std::nullopt;
        const std::size_t begin = units_[node] & 0x7FFFFFFF;
        // A place inside a character would make text that is not UTF-8.
        if (begin > replacements_.size() ||
            (begin < replacements_.size() && (static_cast<unsigned char>(replacements_[begin]) & 0xC0) == 0x80)) {
            return std::nullopt;
        }
        const std::size_t end = replacements_.find('\0', begin);
        return std::string_view(replacements_).substr(begin, end == std::string::npos ? end : end - begin);
    }
    return std::nullopt;
}

std::string Charsmap::apply(std::string_view text, std::size_t most) const {
    constexpr std::size_t kShortCluster = 6;
    std::string result;
    result.reserve(text.size() + 16);
    const auto is_ascii = [&](std::size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
    for (std::size_t i = 0; i < text.size();) {
        // Two printable ASCII characters never share a cluster.
        if (is_ascii(i) && text[i] >= ' ' && (i + 1 == text.size() || (is_ascii(i + 1) && text[i + 1] >= ' ')) &&
            !changes_ascii_[static_cast<unsigned char>(text[i])]) {
            result.push_back(text[i++]);
            continue;
        }
        check_growth(result.size(), most);
        const std::size_t end = grapheme_end(text, i);
        const std::string_view cluster = text.substr(i, end - i);
        i = end;
        if (cluster.size() < kShortCluster) {
            if (const auto whole = replacement(cluster)) {
                result += *whole;
                continue;
            }
        }
        for (std::size_t at = 0; at < cluster.size();) {
            const std::string_view one = cluster.substr(at, character_bytes(cluster[at]));
            result += replacement(one).value_or(one);
            check_growth(result.size(), most);
            at += one.size();
        }
    }
    return result;
}

}  // namespace lrengine::text
