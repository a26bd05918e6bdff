#include "models/model.h"

#include "core/error.h"
#include "models/classifier.h"
#include "models/fusion.h"
#include "models/swcm.h"

namespace lrengine {

namespace {

std::unique_ptr<Model> make_model(std::unique_ptr<ModelFiles> files, WeightLoader& loader) {
    if (files->config.swcm) return std::make_unique<SwcmModel>(std::move(files), loader);
    if (files->config.fusion) return std::make_unique<FusionModel>(std::move(files), loader);
    if (files->config.classifier) return std::make_unique<ClassifierModel>(std::move(files), loader);
    fail(ErrorCode::kUnsupported, "model_type: \"" + files->config.model_type + "\" cannot be run");
}

}  // namespace

std::unique_ptr<Model> load_model(const std::filesystem::path& directory, std::shared_ptr<Backend> backend,
                                  std::optional<DType> dtype) {
    ModelConfig config = read_config(directory);
    auto files = std::make_unique<ModelFiles>(std::move(config), Checkpoint::open(directory), std::move(backend));
    WeightLoader loader(files->checkpoint, *files->backend, files->storage, dtype);
    std::unique_ptr<Model> model = make_model(std::move(files), loader);
    loader.check_all_used();
    return model;
}

}  // namespace lrengine
