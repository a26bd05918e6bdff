// Unicode normal forms (UAX 15) and lower case, as the version of Unicode that Hugging Face `tokenizers` uses has them.
#pragma once

#include <string>
#include <string_view>

namespace lrengine::text {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

std::string normal_form(std::string_view text, NormalForm form);

// Character by character: a final sigma is as any other.
std::string lower_case(std::string_view text);

}  // namespace lrengine::text
