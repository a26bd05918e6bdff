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

// Throws Error(kModelFile) unless quantised matrices are stored exactly where config.json declares them: int4 ones in
// an int4 directory alone, int8 ones in both kinds.
void check_quantization(const ModelConfig& config, const Checkpoint& checkpoint) {
    const std::vector<std::string> names = checkpoint.names();
    const auto find = [&](DType stored) {
        return std::find_if(names.begin(), names.end(), [&](const std::string& name) {
            const TensorRecord& record = *checkpoint.find(name);
            return record.dtype == stored && record.shape.size() == 2;
        });
    };
    const auto int8 = find(DType::kInt8), int4 = find(DType::kUInt8);
    const auto refuse = [&](const std::string& name, const char* found, const char* declared) {
        fail(ErrorCode::kModelFile, checkpoint.find(name)->file + ": " + name + ": found " + found +
                                        ", expected what config.json declares, " + declared);
    };
    if (!config.quantization) {
        if (int8 != names.end()) refuse(*int8, "int8", "no quantization");
        if (int4 != names.end()) refuse(*int4, "int4", "no quantization");
        return;
    }
    const bool packed = config.quantization->dtype == DType::kInt4;
    if (!packed && int4 != names.end()) refuse(*int4, "int4", "int8");
    if (int8 == names.end() && int4 == names.end()) {
        const std::string found(name_of(config.quantization->dtype));
        fail(ErrorCode::kModelFile, checkpoint.find(names.front())->file + ": found no " + found +
                                        " matrix, expected some: config.json's " + "quantization declares them");
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
    const std::optional<Quantization>& quantization = files->config.quantization;
    if (!dtype && quantization) files->weights = quantization->dtype;
    if (dtype) files->weights = dtype;
    files->backend->expect_weights(files->weights.value_or(main_dtype(files->checkpoint)));
    const bool packed = quantization && quantization->dtype == DType::kInt4;
    WeightLoader loader(files->checkpoint, *files->backend, files->storage, files->search, dtype,
                        packed ? quantization->group_size : kInt4GroupSize);
    std::unique_ptr<Model> model = make_model(std::move(files), loader);
    loader.check_all_used();
    return model;
}

}  // namespace lrengine
