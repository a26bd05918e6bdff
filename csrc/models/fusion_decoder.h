// Layer fusion   (arXiv 2508.09091): the mixed layers of an encoder, mapped into the LLM's embeddings, are the LLM's
// prefix: [BOS] [mapped source] [end boundary] [prompt] [tokens].
#pragma once

#include <memory>
#include <optional>

#include "models/llm.h"
#include "models/mapper.h"
#include "models/mixer.h"
#include "models/sequence_decoder.h"

namespace lrengine {

class FusionDecoder final : public SequenceDecoder {
public:
    // Borrows the encoder and the mixer.
    FusionDecoder(const FusionConfig& config, std::optional<std::int64_t> bos, const Encoder& encoder,
                  const Mixer& mixer, WeightLoader& loader, Backend& backend, WeightStorage& storage);

    const EncoderConfig& source_encoder() const override { return encoder_.config(); }
    const DecoderTraits& traits() const override { return traits_; }
    std::int64_t prefix_length(TokenSpan source, TokenSpan prompt) const override;

    void feed(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
              const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache& cross,
              const Matrix& hidden) const override;
    Matrix advance(const Workspace& work, const StepPass& pass, std::int64_t rows) const override;
    Projection projection(const Workspace& work, const Matrix& hidden) const override {
        return {llm_.normalized(work, hidden), llm_.output()};
    }

private:
    // Encodes and maps the sources into their rows of x [M, E].
    void place_sources(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                       const Matrix& x) const;
    // Embeds BOS, end boundary, prompt and tokens into theirs.
    void place_tokens(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                      const Matrix& x) const;
    std::int64_t mapped_length(TokenSpan source) const {
        return mapper_->output_length(static_cast<std::int64_t>(source.size()));
    }

    const Encoder& encoder_;
    const Mixer& mixer_;
    std::vector<std::int32_t> bos_;  // none or one
    std::unique_ptr<Mapper> mapper_;
    Weight end_boundary_;  // [1, E]
    Llm llm_;
    DecoderTraits traits_;
};

}  // namespace lrengine
