// What decoding needs of a model: start a batch of sources, then continue rows token by token.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/error.h"
#include "core/interruption.h"
#include "core/tensor.h"
#include "ops/take_tokens.h"

namespace lrengine {

class Backend;

// One source to continue. `forced` are target tokens fed before the first choice: SWCM: decoder start + the user's
// prefix; fusion: the user's prefix (may be empty) after the prompt. `prompt`: fusion only, LLM ids after the end
// boundary.
struct GenerationSource {
    std::span<const std::int32_t> source;
    std::span<const std::int32_t> prompt;
    std::span<const std::int32_t> forced;
};

// M rows, each fed one token. Spans have M entries, host memory.
struct StepInput {
    std::span<const std::int32_t> tokens;
    std::span<const std::int32_t> slots;  // cache slot that the row writes in this step, [0, sources * rows_per_source)
    std::span<const std::int32_t> sources;  // index of the row's source: its cross attention
    std::span<const std::int32_t> lengths;  // tokens of the row already in the cache = cache position of this one
    std::span<const std::int32_t> history;  // [M, capacity]: slot that holds position t of the row, t <= lengths[m];
                                            // empty: every position in the row's own slot
};

// Where the k likeliest tokens of up to M rows go, in backend memory: as TopKArgs has them. whole_rows: logits() will
// be asked for too.
struct TopTokens {
    bool whole_rows = false;
    std::int64_t k = 1;
    Matrix values;
    std::int32_t* ids = nullptr;
    float* log_sum_exp = nullptr;
};

// Caches of one batch. Not thread-safe.
class DecodeState {
public:
    virtual ~DecodeState() = default;

    // Encodes the sources and feeds prompt and forced tokens; source b's cache is in slot b * rows_per_source. Its rows
    // are the sources, each after its last fed token. `interruption` is called before every layer; after one that
    // threw, as after any other failure, this may be called again.
    virtual void prefill(const Interruption& interruption) = 0;
    // Cache positions that source b takes after prefill (what StepInput::lengths starts from); known before prefill().
    virtual std::int64_t prefill_length(std::int64_t source) const = 0;
    // Feeds a token a row; its rows are the input's.
    virtual void step(const StepInput& input) = 0;
    virtual std::int64_t capacity() const = 0;

    // Steps that take their inputs from the step before, where the backend runs ahead. start_ahead() puts `input`,
    // whose rows have `generated` tokens each, into backend memory, where it stays until the next start_ahead(), step()
    // or prefill(). step_ahead() feeds what is there, writes what select() was told, and ends with `take`, which makes
    // the step's inputs the next one's; no row is then longer than `longest`. `take` asks for ops alone, always for the
    // same with the same arguments as long as its signature is the same. None of this waits for the device.
    struct Take {
        std::function<void()> ops;
        std::vector<std::uint64_t> signature;
    };
    virtual StepRows start_ahead(const StepInput& input, std::int64_t generated);
    virtual void step_ahead(std::int64_t longest, const Take& take);

    // From now on every prefill() and step() also writes the likeliest next tokens of its rows to `out`; without whole
    // rows, logits are not kept where the device can do so.
    virtual void select(const TopTokens& out) = 0;
    // Logits [M, V] after the rows of the last prefill() or step(), float32 in backend memory; valid until the next.
    virtual Matrix logits() = 0;
    // Where the rows are computed.
    virtual Backend& backend() = 0;
};

inline StepRows DecodeState::start_ahead(const StepInput&, std::int64_t) {
    fail(ErrorCode::kInternal, "this state does not run ahead");
}
inline void DecodeState::step_ahead(std::int64_t, const Take&) {
    fail(ErrorCode::kInternal, "this state does not run ahead");
}

class Generator {
public:
    virtual ~Generator() = default;

    virtual std::int64_t vocab_size() const = 0;
    // Longest cache length a row may reach (positions of the model); 0: no limit.
    virtual std::int64_t max_length() const = 0;

    // rows_per_source: beams or samples; max_new_tokens: how far step() may go beyond prefill. Inputs are copied.
    // Throws Error(kInvalidArgument) when a row has no room for one token; no row may be stepped past max_length().
    virtual std::unique_ptr<DecodeState> begin(std::span<const GenerationSource> sources, std::int64_t rows_per_source,
                                               std::int64_t max_new_tokens) const = 0;

    // What score() refuses, refused: an Error naming the source or the target. Computes nothing.
    virtual void check(std::span<const GenerationSource> sources,
                       std::span<const std::span<const std::int32_t>> targets) const = 0;

    // Teacher forcing: log-probabilities of the last targets[i].size() of forced+target tokens; one vector a source.
    // `forced` tokens are fed and not scored. `interruption` is called before every layer.
    virtual std::vector<std::vector<float>> score(std::span<const GenerationSource> sources,
                                                  std::span<const std::span<const std::int32_t>> targets,
                                                  const Interruption& interruption = {}) const = 0;
};

}  // namespace lrengine
