#include "models/model.h"

#include <algorithm>

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

// Throws Error(kModelFile) unless int8 matrices are stored exactly where config.json declares them.
void check_quantization(const ModelConfig& config, const Checkpoint& checkpoint) {
    const std::vector<std::string> names = checkpoint.names();
    const auto found = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
        const TensorRecord& record = *checkpoint.find(name);
        return record.dtype == DType::kInt8 && record.shape.size() == 2;
    });
    const bool declared = config.quantization.has_value();
    if (declared && found == names.end()) {
        fail(ErrorCode::kModelFile, "config.json: quantization: found int8, but no matrix of the checkpoint is int8");
    }
    if (!declared && found != names.end()) {
        const TensorRecord& record = *checkpoint.find(*found);
        fail(ErrorCode::kModelFile, record.file + ": " + *found + " is int8, but config.json declares no quantization");
    }
}

// The element type of the largest matrix.
DType main_dtype(const Checkpoint& checkpoint) {
    std::size_t largest = 0;
    DType dtype = DType::kFloat32;
    for (const std::string& name : checkpoint.names()) {
        const TensorRecord& record = *checkpoint.find(name);
        if (record.shape.size() != 2 || record.bytes <= largest) continue;
        largest = record.bytes;
        dtype = record.dtype;
    }
    return dtype;
}

}  // namespace

std::unique_ptr<Model> load_model(const std::filesystem::path& directory, std::shared_ptr<Backend> backend,
                                  std::optional<DType> dtype) {
    ModelConfig config = read_config(directory);
    auto files = std::make_unique<ModelFiles>(std::move(config), Checkpoint::open(directory), std::move(backend));
    check_quantization(files->config, files->checkpoint);
    files->backend->expect_weights(dtype.value_or(main_dtype(files->checkpoint)));
    WeightLoader loader(files->checkpoint, *files->backend, files->storage, dtype);
    std::unique_ptr<Model> model = make_model(std::move(files), loader);
    loader.check_all_used();
    return model;
}

}  // namespace lrengine
