// The caches of one batch and the scratch of its steps.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "models/generator.h"
#include "models/sequence_decoder.h"

namespace lrengine {

// The arena holds the caches first; everything above them is given back at each step, so that after the first step the
// same memory serves every step.
class GenerationState final : public DecodeState {
public:
    // Inputs have been checked and are copied.
    GenerationState(const SequenceDecoder& decoder, std::shared_ptr<Backend> backend,
                    std::span<const GenerationSource> sources, std::int64_t rows_per_source,
                    std::int64_t max_new_tokens);

    void prefill(const Interruption& interruption) override;
    std::int64_t prefill_length(std::int64_t source) const override {
        return lengths_[static_cast<std::size_t>(source)];
    }
    void step(const StepInput& input) override;
    StepRows start_ahead(const StepInput& input, std::int64_t generated) override;
    void step_ahead(std::int64_t longest, const Take& take) override;
    std::int64_t capacity() const override { return capacity_; }
    void select(const TopTokens& out) override { selection_ = out; }
    Matrix logits() override;
    Backend& backend() override { return *backend_; }

private:
    struct Tokens {
        std::vector<std::int32_t> source, prompt, forced;
    };

    // States of rows and, once made, their logits, in the arena.
    struct Rows {
        Matrix hidden;
        std::optional<Matrix> logits;
    };
    struct Repeated {
        Rows rows;
        Arena::Mark end;
    };

    // Shapes a step of `rows` rows over what pass_ has, and gives a signature of everything that its calls depend on.
    std::vector<std::uint64_t> plan_step(std::int64_t rows, std::int64_t longest);
    Workspace work() { return {*backend_, arena_}; }
    // Feeds some of the sources; their last rows' states go to `last`.
    void feed(const Workspace& work, SequenceRange range, const Matrix& last);
    // Writes what select() was told.
    void select_from(Rows& rows);

    std::uint64_t identity_;  // of no other state of this process
    const SequenceDecoder& decoder_;
    std::shared_ptr<Backend> backend_;
    Arena arena_;
    std::vector<Tokens> tokens_;
    std::vector<std::int64_t> lengths_;  // rows of each source after prefill
    std::vector<std::int32_t>
        source_offsets_;  // of the packed sources in the cross cache; empty without cross attention
    std::int64_t rows_per_source_;
    std::int64_t capacity_;
    std::int64_t longest_source_ = 0;
    KvCache cache_, cross_;
    Arena::Mark scratch_;
    StepPass pass_;
    Arena::Mark step_begin_;  // after what start_ahead() uploaded
    std::int64_t ahead_rows_ = 0;
    std::optional<TopTokens> selection_;
    Rows rows_;                                                // of the last call
    std::map<std::vector<std::uint64_t>, Repeated> repeated_;  // by signature: what steps fed by the host write
};

}  // namespace lrengine
