// Base64 (RFC 4648, section 4), as tokenizer.json holds a character map.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lrengine::text {

// Nothing for what is not base64 with its padding.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace lrengine::text
