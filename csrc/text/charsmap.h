// SentencePiece's precompiled character map: a double-array trie from UTF-8 to a place in a block of replacements.
//
// The format: u32 size of the trie in bytes, the trie's units (u32), then the replacements, each ended by NUL. All of
// it comes from a file: every step of a walk is checked against the array's end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lrengine::text {

class Charsmap {
public:
    // Throws Error(kModelFile) for a map that is cut or not UTF-8; `file` is for the message.
    Charsmap(std::string_view bytes, const std::string& file);

    // `text` with its grapheme clusters replaced. As Hugging Face's: a cluster below 6 bytes as a whole where the map
    // has any beginning of it (the shortest one counts), else its characters one by one.
    // Throws Error(kInvalidArgument) when the result would be longer than `most` bytes.
    std::string apply(std::string_view text, std::size_t most) const;

private:
    std::optional<std::string_view> replacement(std::string_view piece) const;

    std::vector<std::uint32_t> units_;
    std::string replacements_;
    bool changes_ascii_[128];
};

}  // namespace lrengine::text
