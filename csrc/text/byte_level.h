// GPT-2's spelling of bytes as characters: every byte is a letter that one can see (bytes_to_unicode of its encoder).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lrengine::text {

void append_byte_letters(std::string& result, std::string_view bytes);
// Nothing if a character of `letters` stands for no byte.
std::optional<std::string> bytes_of_letters(std::string_view letters);

}  // namespace lrengine::text
