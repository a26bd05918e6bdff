// What every model family has: an opened directory, an encoder, perhaps a mixer, and access to their outputs.
#pragma once

#include <memory>
#include <optional>

#include "core/checkpoint.h"
#include "core/weight_loader.h"
#include "core/weight_storage.h"
#include "models/encoder.h"
#include "models/mixer.h"
#include "models/model.h"

namespace lrengine {

// An opened model directory and the device that its weights are on. Outlives everything loaded from it.
struct ModelFiles {
    ModelConfig config;
    Checkpoint checkpoint;
    WeightSearch search;  // of what stays in the checkpoint's mapping; after it, so that it ends first
    std::shared_ptr<Backend> backend;
    WeightStorage storage;
    std::optional<DType> weights;  // the type that was asked for, or that config.json declares

    ModelFiles(ModelConfig model_config, Checkpoint opened, std::shared_ptr<Backend> device)
        : config(std::move(model_config)),
          checkpoint(std::move(opened)),
          backend(std::move(device)),
          storage(*backend) {}
};

class BaseModel : public Model {
public:
    const ModelConfig& config() const final { return files_->config; }
    const EncoderConfig& encoder() const final { return encoder_->config(); }
    std::size_t weight_bytes() const final;
    WeightSearch& weight_search() final { return files_->search; }
    DType weight_dtype() const final { return files_->weights.value_or(encoder_->word_embeddings().dtype); }

    std::vector<std::vector<float>> classify(std::span<const TokenSpan> sources,
                                             const Interruption& interruption) const override;
    std::vector<std::vector<float>> encode(std::span<const TokenSpan> sources, EncodeOutput output,
                                           const Interruption& interruption) const final;

protected:
    // Loads the encoder and, if the family has one, the mixer. A reference, so that the other arguments can be parts of
    // it.
    BaseModel(std::unique_ptr<ModelFiles>&& files, const EncoderConfig& encoder, const MixerConfig* mixer,
              WeightLoader& loader);

    const std::shared_ptr<Backend>& backend() const { return files_->backend; }
    WeightStorage& storage() { return files_->storage; }
    const Encoder& source_encoder() const { return *encoder_; }
    const Mixer& mixer() const { return *mixer_; }

private:
    // The wanted matrices of some sources, [rows, *] each, in the arena's current scope.
    std::vector<Matrix> encode_rows(const Workspace& work, std::span<const TokenSpan> sources, const PackedRows& rows,
                                    EncodeOutput output) const;

    std::unique_ptr<ModelFiles> files_;
    std::unique_ptr<Encoder> encoder_;
    std::optional<Mixer> mixer_;
};

}  // namespace lrengine
