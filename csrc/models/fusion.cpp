#include "models/fusion.h"

namespace lrengine {

FusionModel::FusionModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader)
    : BaseModel(std::move(files), files->config.fusion->encoder, &files->config.fusion->mixer, loader),
      decoder_(*config().fusion, config().tokens.bos, source_encoder(), mixer(), loader, *backend(), storage()),
      generator_(decoder_, backend()) {}

}  // namespace lrengine
