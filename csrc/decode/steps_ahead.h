// Decode steps that the device takes ahead of the host: what each step chose is read some steps later.
//
// The device decides only what the next step is fed; the host replays every decision from the records, with the code
// that decides where nothing runs ahead. So a row may be stepped on after its end, which the host learns late: such
// steps write in the row's own slots, and nobody reads them.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <span>
#include <type_traits>
#include <vector>

#include "core/arena.h"
#include "decode/logits_processors.h"
#include "models/generator.h"
#include "models/workspace.h"
#include "ops/sample_tokens.h"

namespace lrengine {

class StepsAhead {
public:
    // What ends a step whose inputs are in `rows`; its record r of kStepRing goes to `records` + r * record_bytes.
    using MakeTake = std::function<DecodeState::Take(const Workspace& work, const StepRows& rows, void* records)>;

    // The state outlives this.
    explicit StepsAhead(DecodeState& state) : state_(state), arena_(state.backend()) {}

    bool running() const { return running_; }
    // From `input` on, whose rows have `generated` tokens each: at most `steps` steps. What the take reads is uploaded
    // by `make`, anew for every start. Steps that were still running come first in the stream's order, so nothing that
    // they use is written too early.
    void start(const StepInput& input, std::int64_t generated, std::int64_t steps, std::int64_t record_bytes,
               const MakeTake& make);
    // Forgets the steps that were not read.
    void stop() { running_ = false; }
    // Waits for the oldest step that was not read, with others running behind it; its record is there until the next
    // call.
    const void* next();

    // A copy of what these processors ban.
    static BannedTokens upload(const LogitsProcessors& processors, const Workspace& work);
    // All that these processors do to whole rows of logits, without the logits; `histories` is one a row, and `steps`
    // how many tokens may come to each.
    static ProcessScoresArgs upload(const LogitsProcessors& processors, const Workspace& work, const StepRows& rows,
                                    std::int64_t vocab, std::span<const std::vector<std::int32_t>> histories,
                                    std::int64_t steps);

private:
    void launch();

    DecodeState& state_;
    Arena arena_;
    bool running_ = false;
    std::int64_t capacity_ = 0;
    DecodeState::Take take_;
    char* records_ = nullptr;
    std::int64_t record_bytes_ = 0;
    std::int64_t generated_ = 0;  // of the rows, when the oldest step that was not read has not been taken
    std::int64_t longest_ = 0;    // keys of the longest row in the next step to launch
    std::int64_t unread_ = 0;     // steps launched and not read
    std::int64_t left_ = 0;       // steps that may be launched
};

// Appends numbers and addresses as words of a signature.
template <typename... Values>
void describe(std::vector<std::uint64_t>& words, const Values&... values) {
    const auto word = [](const auto& value) -> std::uint64_t {
        using Value = std::decay_t<decltype(value)>;
        if constexpr (std::is_pointer_v<Value>) return reinterpret_cast<std::uintptr_t>(value);
        if constexpr (std::is_same_v<Value, float>) return std::bit_cast<std::uint32_t>(value);
        if constexpr (std::is_same_v<Value, double>) return std::bit_cast<std::uint64_t>(value);
        if constexpr (std::is_integral_v<Value>) return static_cast<std::uint64_t>(value);
    };
    (words.push_back(word(values)), ...);
}
void describe(std::vector<std::uint64_t>& words, const BannedTokens& banned);
void describe(std::vector<std::uint64_t>& words, const ProcessScoresArgs& args);

// Whether rows that ended should leave the batch: not one by one, since each number of rows is recorded on its own.
bool worth_shrinking(std::size_t rows, std::size_t active);

}  // namespace lrengine
