// Generator over a SequenceDecoder: batches, caches, prefill, steps and teacher forcing, the same for every model
// family.
#pragma once

#include <memory>

#include "models/generator.h"
#include "models/sequence_decoder.h"

namespace lrengine {

// Borrows the decoder; the model that owns it outlives it.
class SequenceGenerator final : public Generator {
public:
    SequenceGenerator(const SequenceDecoder& decoder, std::shared_ptr<Backend> backend)
        : decoder_(decoder), backend_(std::move(backend)) {}

    std::int64_t vocab_size() const override { return decoder_.traits().vocab; }
    std::int64_t max_length() const override { return decoder_.traits().longest_row(); }

    std::unique_ptr<DecodeState> begin(std::span<const GenerationSource> sources, std::int64_t rows_per_source,
                                       std::int64_t max_new_tokens) const override;

    void check(std::span<const GenerationSource> sources, std::span<const TokenSpan> targets) const override;
    std::vector<std::vector<float>> score(std::span<const GenerationSource> sources, std::span<const TokenSpan> targets,
                                          const Interruption& interruption) const override;

private:
    const SequenceDecoder& decoder_;
    std::shared_ptr<Backend> backend_;
};

}  // namespace lrengine
