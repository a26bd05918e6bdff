// What the fuzzers share. Each is one function on bytes: clang's libFuzzer drives it (LRENGINE_FUZZERS), and everywhere
// a main() that runs it on the files of its corpus, as a test.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "lrengine/lrengine.h"
#include "model_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

// Runs `body`; an Error is an answer, whatever else is thrown ends the fuzzer.
template <typename Body>
void expect_answer(Body body) {
    try {
        body();
    } catch (const lrengine::Error& error) {
        if (error.code() == lrengine::ErrorCode::kInternal || error.what()[0] == '\0') std::abort();
    }
}

// A status of the C interface is an answer, with a message unless it is OK; a bug of ours ends the fuzzer.
inline void expect_status(lrengine_status status) {
    if (status < LRENGINE_OK || status >= LRENGINE_INTERNAL) std::abort();
    if (status != LRENGINE_OK && lrengine_last_error()[0] == '\0') std::abort();
}

// Takes values off the front of the input; zeros when it is used up.
class Bytes {
public:
    Bytes(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

    bool empty() const { return rest_.empty(); }
    template <typename T>
    T take() {
        T value{};
        const std::size_t count = std::min(sizeof(T), rest_.size());
        std::memcpy(&value, rest_.data(), count);
        rest_ = rest_.subspan(count);
        return value;
    }
    // A number in [0, count).
    std::size_t index(std::size_t count) { return take<std::uint32_t>() % count; }
    std::string_view text(std::size_t most) {
        const std::size_t count = std::min<std::size_t>(take<std::uint8_t>() % (most + 1), rest_.size());
        const std::string_view taken(reinterpret_cast<const char*>(rest_.data()), count);
        rest_ = rest_.subspan(count);
        return taken;
    }

private:
    std::span<const std::uint8_t> rest_;
};

}  // namespace fuzz
