// The text that generated tokens add to a prefix: lrengine/text.py's class of this name, in C++.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace lrengine {

class TargetText {
public:
    // `tokenizer` must outlive this. Malformed UTF-8 in stop strings counts as U+FFFD, as it does in texts.
    TargetText(const Tokenizer& tokenizer, std::span<const std::int32_t> prefix, std::span<const std::string> stop);

    // Everything that `tokens` add. They are decoded behind the prefix: many tokenizers drop a leading space.
    std::string whole(std::span<const std::int32_t> tokens) const;
    // Whether a stop string is in the text.
    bool stopped(std::span<const std::int32_t> tokens) const;
    // The text before the first stop string.
    std::string cut(std::span<const std::int32_t> tokens) const;
    // Whether later tokens cannot change this text: no half character, no beginning of a stop string, no run of bytes
    // at its end. (Decoders with byte fallback, Hugging Face's as ours, make U+FFFD of all of a run that is not UTF-8:
    // of characters too that were whole before a last byte came.)
    bool certain(std::span<const std::int32_t> tokens) const;

private:
    const Tokenizer& tokenizer_;
    std::vector<std::int32_t> prefix_;
    std::string head_;
    std::vector<std::string> stop_;
    std::int32_t lone_byte_;  // a token of a byte that no UTF-8 ends with; -1: there is none
};

}  // namespace lrengine
