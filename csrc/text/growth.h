// A tokenizer's rules come from a file: they must not make a short text endless.
#pragma once

#include <cstddef>

#include "core/error.h"

namespace lrengine::text {

// What `bytes` of text may become. Compatibility forms grow 11 times at most, byte letters and named bytes 6 times.
constexpr std::size_t most_bytes(std::size_t bytes) { return 64 * bytes + 4096; }

inline void check_growth(std::size_t bytes, std::size_t most) {
    if (bytes > most) fail(ErrorCode::kInvalidArgument, "text: found rules in the tokenizer that make it endless");
}

}  // namespace lrengine::text
