#include "capi_models.h"

#include "runtime/engine.h"
#include "tiny_models.h"

namespace capi_models {

struct Model::Files {
    tiny::Directory directory;
    std::shared_ptr<lrengine::Engine> engine;
};

Model::Model(Kind kind) : files_(std::make_unique<Files>()) {
    if (kind == Kind::kSwcm) tiny::write_swcm(files_->directory);
    if (kind == Kind::kFusion) tiny::write_fusion(files_->directory);
    if (kind == Kind::kClassifier) tiny::write_classifier(files_->directory, R"("mixer": {"type": "last"})");
    files_->engine =
        lrengine::Engine::load(files_->directory.path(), {.device = "cpu", .dtype = {}, .threads = 1, .log = {}});
}

Model::~Model() = default;

std::string Model::path() const { return files_->directory.path().string(); }

Reference Model::greedy(const std::vector<std::int32_t>& source, std::int64_t tokens,
                        const std::vector<std::int32_t>& prefix) const {
    lrengine::GenerationOptions options;
    options.max_new_tokens = tokens;
    const auto session = files_->engine->start({{source, {}, prefix}}, options, {});
    while (!session->done()) session->step();
    const lrengine::Hypothesis answer = session->results()[0][0];
    return {answer.tokens, answer.token_log_probs};
}

std::vector<float> Model::score(const std::vector<std::int32_t>& source,
                                const std::vector<std::int32_t>& target) const {
    return files_->engine->score({{source, {}, {}}}, {target})[0];
}

std::vector<float> Model::classify(const std::vector<std::int32_t>& source) const {
    return files_->engine->classify({source})[0];
}

std::vector<float> Model::encode(const std::vector<std::int32_t>& source) const {
    return files_->engine->encode({source}, lrengine::EncodeOutput::kLast)[0];
}

std::vector<std::int32_t> ids(std::size_t length, unsigned seed) { return tiny::some_ids(length, seed); }

}  // namespace capi_models
