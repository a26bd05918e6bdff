// A layer-fusion model directory, opened.
#pragma once

#include "models/base_model.h"
#include "models/fusion_decoder.h"
#include "models/sequence_generator.h"

namespace lrengine {

class FusionModel final : public BaseModel {
public:
    FusionModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader);

    const Generator* generator() const override { return &generator_; }

private:
    FusionDecoder decoder_;
    SequenceGenerator generator_;
};

}  // namespace lrengine
