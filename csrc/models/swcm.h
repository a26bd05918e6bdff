// An SWCM model directory, opened.
#pragma once

#include "models/base_model.h"
#include "models/sequence_generator.h"
#include "models/swcm_decoder.h"

namespace lrengine {

class SwcmModel final : public BaseModel {
public:
    SwcmModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader);

    const Generator* generator() const override { return &generator_; }
    const SwcmDecoder& decoder() const { return decoder_; }

private:
    SwcmDecoder decoder_;
    SequenceGenerator generator_;
};

}  // namespace lrengine
