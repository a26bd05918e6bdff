// What a family of generators (SWCM, layer fusion) has to say about itself; decoding over it is written once.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>

#include "models/decoder_pass.h"
#include "models/encoder.h"

namespace lrengine {

// A sequence fed from its first position: what `source` and `prompt` become, then `tokens`.
struct FedSequence {
    TokenSpan source, prompt, tokens;
};

// logits = x W^T + b
struct Projection {
    Matrix x;  // [M, D]
    Dense output;
};

struct DecoderTraits {
    std::int64_t layers = 0;
    std::int64_t key_width = 0;    // Hkv * d of the caches
    std::int64_t hidden = 0;       // width of the decoder's states
    std::int64_t vocab = 0;        // of the target side, prompts included
    std::int64_t max_length = 0;   // cache positions of a row; 0: no limit
    std::int64_t window = 0;       // sliding window that is not implemented: longer rows are refused; 0: none
    bool cross_attention = false;  // keys and values of the source are kept apart
    bool takes_prompt = false;
    bool needs_first_token = false;  // nothing can be predicted before a token is fed

    // Positions that a row can be run with; 0: no limit.
    std::int64_t longest_row() const {
        if (max_length == 0 || window == 0) return std::max(max_length, window);
        return std::min(max_length, window);
    }
};

// Immutable; one object serves many threads.
class SequenceDecoder {
public:
    SequenceDecoder() : identity_(next_identity()) {}
    virtual ~SequenceDecoder() = default;

    // Of no other decoder of this process, before or after.
    std::uint64_t identity() const { return identity_; }

    virtual const EncoderConfig& source_encoder() const = 0;
    virtual const DecoderTraits& traits() const = 0;
    // Rows that a source and its prompt take in the decoder before the first token.
    virtual std::int64_t prefix_length(TokenSpan source, TokenSpan prompt) const = 0;

    // Runs whole sequences (rows: prefix and tokens of each). Writes the state of every row to `hidden` [M, hidden];
    // with a cache, keys and values of sequence b from its row cache_begin[b] on; with cross attention, those of the
    // sources to `cross`, whose rows are the sources' tokens, packed.
    virtual void feed(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                      const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache& cross,
                      const Matrix& hidden) const = 0;
    // One token a row: states [M, hidden] in the arena's current scope.
    virtual Matrix advance(const Workspace& work, const StepPass& pass, std::int64_t rows) const = 0;
    // What the logits of states [M, hidden] are the product of; scratch in the arena's current scope.
    virtual Projection projection(const Workspace& work, const Matrix& hidden) const = 0;

    // Logits [M, V] in float32, in the arena's current scope.
    Matrix logits(const Workspace& work, const Matrix& hidden) const {
        const Matrix out = work.floats(hidden.rows, traits().vocab);
        const ArenaScope scope(work.arena);
        const Projection projected = projection(work, hidden);
        work.backend.linear(product(projected.x, projected.output, out));
        return out;
    }

private:
    static std::uint64_t next_identity() {
        static std::atomic<std::uint64_t> count = 0;
        return ++count;
    }

    std::uint64_t identity_;
};

}  // namespace lrengine
