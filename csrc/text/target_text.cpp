#include "text/target_text.h"

#include <algorithm>

#include "text/unicode.h"

namespace lrengine {

namespace {

// A byte's token that cannot end a run of them which is UTF-8: begun characters, and continued ones after whole ones.
std::int32_t find_lone_byte(const Tokenizer& tokenizer) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (unsigned byte = 0x80; byte <= 0xFF; ++byte) {
        const char name[] = {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
        if (const std::int32_t id = tokenizer.id({name, sizeof name}); id >= 0) return id;
    }
    return -1;
}

}  // namespace

TargetText::TargetText(const Tokenizer& tokenizer, std::span<const std::int32_t> prefix,
                       std::span<const std::string> stop)
    : tokenizer_(tokenizer),
      prefix_(prefix.begin(), prefix.end()),
      head_(tokenizer.decode(prefix)),
      lone_byte_(find_lone_byte(tokenizer)) {
    for (const std::string& text : stop) stop_.push_back(text::replace_malformed(text));
}

std::string TargetText::whole(std::span<const std::int32_t> tokens) const {
    std::vector<std::int32_t> all = prefix_;
    all.insert(all.end(), tokens.begin(), tokens.end());
    std::string text = tokenizer_.decode(all);
    return text.starts_with(head_) ? text.substr(head_.size()) : tokenizer_.decode(tokens);
}

bool TargetText::stopped(std::span<const std::int32_t> tokens) const {
    const std::string text = whole(tokens);
    return std::any_of(stop_.begin(), stop_.end(),
                       [&](const std::string& stop) { return text.find(stop) != std::string::npos; });
}

std::string TargetText::cut(std::span<const std::int32_t> tokens) const {
    std::string text = whole(tokens);
    std::size_t end = text.size();
    for (const std::string& stop : stop_) end = std::min(end, text.find(stop));
    text.resize(end);
    return text;
}

bool TargetText::certain(std::span<const std::int32_t> tokens) const {
    const std::string text = whole(tokens);
    std::string half;
    text::append_character(half, text::kReplacementCharacter);
    if (text.ends_with(half)) return false;
    if (lone_byte_ >= 0) {
        std::vector<std::int32_t> longer(tokens.begin(), tokens.end());
        longer.push_back(lone_byte_);
        if (!whole(longer).starts_with(text)) return false;
    }
    for (const std::string& stop : stop_) {
        // Beginnings that cut a character match nothing: the text is whole characters.
        for (std::size_t length = 1; length < stop.size() && length <= text.size(); ++length) {
            if (text.ends_with(std::string_view(stop).substr(0, length))) return false;
        }
    }
    return true;
}

}  // namespace lrengine
