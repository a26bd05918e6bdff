#include "models/swcm.h"

#include "core/error.h"

namespace lrengine {

namespace {

const BertEncoder& shareable(const Encoder& encoder) {
    const auto* bert = dynamic_cast<const BertEncoder*>(&encoder);
    if (bert == nullptr) {
        fail(ErrorCode::kUnsupported, "encoder.model_type: found \"" + encoder.config().model_type +
                                          "\", expected a BERT or XLM-RoBERTa encoder, whose weights swcm shares");
    }
    return *bert;
}

}  // namespace

SwcmModel::SwcmModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader)
    : BaseModel(std::move(files), files->config.swcm->encoder, nullptr, loader),
      decoder_(*config().swcm, shareable(source_encoder()), loader),
      generator_(decoder_, backend()) {}

}  // namespace lrengine
