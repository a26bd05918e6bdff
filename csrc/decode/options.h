// Every option of a generation request: declared here once; bindings, Python and the command line read this table.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace lrengine {

// When a beam search with enough finished beams ends (transformers' `early_stopping`).
enum class EarlyStopping {
    kHeuristic,  // False: when the best running beam, at its present length, cannot beat the worst finished one
    kFirst,      // True: as soon as num_beams beams are finished
    kNever,      // "never": when no running beam could win even at the longest length
};

// Names, defaults and meanings are those of transformers' generate().
struct GenerationOptions {
    std::int64_t max_new_tokens = 256;
    std::int64_t min_new_tokens = 0;
    std::int64_t num_beams = 1;
    std::int64_t num_return_sequences = 1;
    double length_penalty = 1.0;
    EarlyStopping early_stopping = EarlyStopping::kHeuristic;
    double repetition_penalty = 1.0;
    std::int64_t no_repeat_ngram_size = 0;
    bool do_sample = false;
    double temperature = 1.0;
    std::int64_t top_k = 0;
    double top_p = 1.0;
    std::optional<std::uint64_t> seed;
    std::vector<std::int32_t> suppress_tokens;

    // Rows of the cache that one source takes: its beams, or its samples.
    std::int64_t rows_per_source() const { return num_beams > 1 ? num_beams : num_return_sequences; }
};

// Calls visit(name, member, description) for every option, in the order above.
template <typename Options, typename Visitor>
void visit_options(Options& options, Visitor&& visit) {
    visit("max_new_tokens", options.max_new_tokens, "most tokens to generate, the end token included");
    visit("min_new_tokens", options.min_new_tokens, "no end token before this many tokens");
    visit("num_beams", options.num_beams, "beams of a beam search; 1: no beam search");
    visit("num_return_sequences", options.num_return_sequences, "answers an input: beams, or samples");
    visit("length_penalty", options.length_penalty, "beams are ranked by score / length ** length_penalty");
    visit("early_stopping", options.early_stopping,
          "end a beam search at num_beams finished beams: true, false, never");
    visit("repetition_penalty", options.repetition_penalty, "over 1: tokens already there become less likely");
    visit("no_repeat_ngram_size", options.no_repeat_ngram_size, "no n-gram of this size occurs twice; 0: off");
    visit("do_sample", options.do_sample, "draw tokens at random instead of taking the likeliest");
    visit("temperature", options.temperature, "sampling: logits are divided by it");
    visit("top_k", options.top_k, "sampling: only the k likeliest tokens; 0 or more than the vocabulary: all");
    visit("top_p", options.top_p, "sampling: only the likeliest tokens that together reach this probability");
    visit("seed", options.seed, "sampling: the same seed gives the same answers; none: a fresh one");
    visit("suppress_tokens", options.suppress_tokens, "ids that are never generated");
}

// Throws Error(kInvalidArgument) that names the option, what was found and what was expected.
void validate(const GenerationOptions& options, std::int64_t vocab_size);

}  // namespace lrengine
