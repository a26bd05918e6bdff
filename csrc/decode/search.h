// Decoding as a resumable object: one step is one token for every unfinished row.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/interruption.h"
#include "decode/options.h"
#include "models/generator.h"

namespace lrengine {

enum class FinishReason {
    kStop,       // an end token, or the stop hook
    kLength,     // max_new_tokens, or the model's longest length
    kCancelled,  // the search was not run to its end
};

// One answer. `tokens` are the generated ones without forced tokens and without the end token.
struct Hypothesis {
    std::vector<std::int32_t> tokens;
    // log p(token | everything before) under the model itself, before penalties, temperature and filters; when the row
    // ended with an end token, that token's is the last.
    std::vector<float> token_log_probs;
    FinishReason finish_reason = FinishReason::kCancelled;

    double score() const;  // sum of token_log_probs
};

// Looks at the tokens generated for a row of a source (never the end token); true ends the row with kStop.
using StopHook = std::function<bool(std::int64_t source, std::span<const std::int32_t> generated)>;

struct SearchRequest {
    std::span<const GenerationSource> sources;  // read by start_search() alone
    GenerationOptions options;                  // validated; with a seed when do_sample is set
    std::vector<std::int32_t> end_tokens;
    StopHook stop;                   // may be empty
    Interruption interruption = {};  // while sources are read
    // Before they are: waits for what reading needs, calling what it is given. May be empty; what it throws ends the
    // search.
    std::function<void(const Interruption&)> ready = {};
};

// Not thread-safe, but for cancel().
class Search {
public:
    explicit Search(const SearchRequest& request) : interruption_(request.interruption), ready_(request.ready) {}
    virtual ~Search() = default;

    bool done() const { return cancelled_ || finished(); }
    // Does nothing when done. A step that throws ends the search, results() having what there was before it; but for
    // Error(kOutOfMemory | kDevice), after which the same step may be tried again.
    void step();
    // From any thread; takes effect before the next step, or before the next layer where the first one reads the
    // sources.
    void cancel() { cancelled_ = true; }
    // What there is of the answers: one list a source, best first, num_return_sequences long. Unfinished rows are
    // kCancelled.
    virtual std::vector<std::vector<Hypothesis>> results() const = 0;

protected:
    virtual bool finished() const = 0;
    // Throws before any row has taken a token, or none of them keeps it.
    virtual void advance() = 0;
    // What the first step reads the sources with.
    void prefill(DecodeState& state) const;

private:
    Interruption interruption_;
    std::function<void(const Interruption&)> ready_;
    std::atomic<bool> cancelled_ = false;
};

// Beam search when num_beams > 1, otherwise greedy or sampling. The generator outlives the search.
std::unique_ptr<Search> start_search(const Generator& generator, const SearchRequest& request);

// Most new tokens of each source: max_new_tokens, or what the model's positions leave.
std::vector<std::int64_t> token_limits(const Generator& generator, const DecodeState& state, std::size_t sources,
                                       std::int64_t max_new_tokens);

// The random stream of each source: from its own ids and, among equal sources, its number; so that it is the same in
// any batch.
std::vector<std::uint64_t> source_streams(std::span<const GenerationSource> sources);

}  // namespace lrengine
