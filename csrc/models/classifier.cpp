#include "models/classifier.h"

#include <algorithm>
#include <cmath>

#include "core/finite.h"
#include "models/request.h"

namespace lrengine {

namespace {

std::vector<float> log_softmax(std::span<const float> logits) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    std::vector<float> result;
    for (const float logit : logits) result.push_back(static_cast<float>(logit - largest - std::log(sum)));
    return result;
}

}  // namespace

ClassifierModel::ClassifierModel(std::unique_ptr<ModelFiles> files, WeightLoader& loader)
    : BaseModel(std::move(files), files->config.classifier->encoder, &files->config.classifier->mixer, loader) {
    const auto labels = static_cast<std::int64_t>(config().classifier->labels.size());
    head_ = load_dense(loader, "classifier", labels, encoder().width, Bias::kPresent);
}

std::vector<std::vector<float>> ClassifierModel::classify(std::span<const TokenSpan> sources,
                                                          const Interruption& interruption) const {
    check_sources(sources, encoder());
    const std::shared_ptr<Backend> session = session_backend(backend());
    Arena arena(*session);
    const Workspace work(*session, arena, &interruption);
    std::vector<std::vector<float>> results;
    for (const SequenceRange range : split_batch(lengths_of(sources))) {
        const ArenaScope scope(arena);
        const Matrix scores = logits(work, sources.subspan(range.first, range.count));
        const std::vector<float> values = work.download(scores);
        require_finite(values, "logits");
        const auto labels = static_cast<std::size_t>(scores.cols);
        for (std::size_t b = 0; b < range.count; ++b) {
            results.push_back(log_softmax(std::span(values).subspan(b * labels, labels)));
        }
    }
    return results;
}

Matrix ClassifierModel::logits(const Workspace& work, std::span<const TokenSpan> sources) const {
    const auto count = static_cast<std::int64_t>(sources.size());
    const Matrix out = work.floats(count, head_.outputs());
    const ArenaScope scope(work.arena);
    const PackedRows rows(work, lengths_of(sources));
    const Matrix pooled = work.residual(count, encoder().width);
    const Matrix fused = mixer().fuse(work, source_encoder(), sources, rows).make(work.backend);
    work.backend.mean_pool({.x = fused, .out = pooled, .sequences = rows.view()});
    work.backend.linear(product(pooled, head_, out));
    return out;
}

}  // namespace lrengine
