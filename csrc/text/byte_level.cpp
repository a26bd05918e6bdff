#include "text/byte_level.h"

#include <array>

#include "text/unicode.h"

namespace lrengine::text {

namespace {

struct Letters {
    std::array<char32_t, 256> of_byte{};
    std::array<std::string, 256> spelled;
    std::array<std::int16_t, 512> byte_of{};  // -1: none

    Letters() {
        byte_of.fill(-1);
        char32_t next = 256;
        for (char32_t byte = 0; byte < 256; ++byte) {
            const bool visible = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
            of_byte[byte] = visible ? byte : next++;
            byte_of[of_byte[byte]] = static_cast<std::int16_t>(byte);
            append_character(spelled[byte], of_byte[byte]);
        }
    }
};

const Letters& letters() {
    static const Letters all;
    return all;
}

}  // namespace

void append_byte_letters(std::string& result, std::string_view bytes) {
    const Letters& all = letters();
    for (const char byte : bytes) result += all.spelled[static_cast<unsigned char>(byte)];
}

std::optional<std::string> bytes_of_letters(std::string_view text) {
    const Letters& all = letters();
    std::string bytes;
    for (std::size_t i = 0; i < text.size();) {
        const char32_t code = next_character(text, i);
        if (code >= all.byte_of.size() || all.byte_of[code] < 0) return std::nullopt;
        bytes.push_back(static_cast<char>(all.byte_of[code]));
    }
    return bytes;
}

}  // namespace lrengine::text
