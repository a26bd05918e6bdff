// A classifier: encoder, mixer, mean over the source's tokens, Linear   (MODELS.md, C).
#pragma once

#include "models/base_model.h"

namespace lrengine {

class ClassifierModel final : public BaseModel {
public:
    ClassifierModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader);

    std::vector<std::vector<float>> classify(std::span<const TokenSpan> sources,
                                             const Interruption& interruption) const override;

private:
    // Logits [B, C] of some sources, in the arena's current scope.
    Matrix logits(const Workspace& work, std::span<const TokenSpan> sources) const;

    Dense head_;
};

}  // namespace lrengine
