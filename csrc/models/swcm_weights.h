// Where each decoder layer's weights come from: the file, or the encoder's own layers.
#pragma once

#include <vector>

#include "models/swcm_decoder.h"

namespace lrengine {

// Custom and normal layers in the order they are applied.
std::vector<SwcmLayer> load_swcm_layers(const SwcmConfig& config, const BertEncoder& encoder, WeightLoader& loader);

}  // namespace lrengine
