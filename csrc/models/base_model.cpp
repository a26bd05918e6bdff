#include "models/base_model.h"

#include <set>

#include "core/error.h"
#include "core/finite.h"
#include "models/request.h"

namespace lrengine {

namespace {

// Appends rows [first, first + count) of a downloaded matrix with `cols` columns.
void append_rows(std::vector<float>& destination, const std::vector<float>& matrix, std::int64_t first,
                 std::int64_t count, std::int64_t cols) {
    const auto begin = matrix.begin() + first * cols;
    destination.insert(destination.end(), begin, begin + count * cols);
}

}  // namespace

BaseModel::BaseModel(std::unique_ptr<ModelFiles>&& files, const EncoderConfig& encoder, const MixerConfig* mixer,
                     WeightLoader& loader)
    : files_(std::move(files)), encoder_(load_encoder(encoder, loader, *files_->backend, files_->storage)) {
    if (mixer != nullptr) mixer_.emplace(*mixer, encoder, loader, *files_->backend, files_->storage);
}

std::size_t BaseModel::weight_bytes() const {
    std::size_t bytes = files_->storage.bytes();
    std::set<const void*> in_use;
    for (const auto& [name, weight] : files_->storage.matrices) {
        in_use.insert({weight.data, weight.scales, weight.group_scales});
    }
    for (const auto& [name, vector] : files_->storage.vectors) in_use.insert(vector.data);
    for (const std::string& name : files_->checkpoint.names()) {
        const TensorRecord& record = *files_->checkpoint.find(name);
        if (in_use.contains(record.data)) bytes += record.bytes;
    }
    return bytes;
}

std::vector<std::vector<float>> BaseModel::classify(std::span<const TokenSpan>, const Interruption&) const {
    fail(ErrorCode::kInvalidArgument, "a " + config().model_type + " model has no classification head");
}

std::vector<std::vector<float>> BaseModel::encode(std::span<const TokenSpan> sources, EncodeOutput output,
                                                  const Interruption& interruption) const {
    if (output == EncodeOutput::kWeights && !mixer_) {
        fail(ErrorCode::kInvalidArgument, "a " + config().model_type + " model has no mixer, so no layer weights");
    }
    check_sources(sources, encoder());
    const std::shared_ptr<Backend> session = session_backend(backend());
    Arena arena(*session);
    const Workspace work(*session, arena, &interruption);
    std::vector<std::vector<float>> results(sources.size());
    for (const SequenceRange range : split_batch(lengths_of(sources))) {
        const ArenaScope scope(arena);
        const auto part = sources.subspan(range.first, range.count);
        const PackedRows rows(work, lengths_of(part));
        for (const Matrix& matrix : encode_rows(work, part, rows, output)) {
            const std::vector<float> values = work.download(matrix);
            require_finite(values, output == EncodeOutput::kWeights ? "layer weights" : "states");
            for (std::size_t b = 0; b < range.count; ++b) {
                const auto index = static_cast<std::int64_t>(b);
                append_rows(results[range.first + b], values, rows.begin(index), rows.view().length(index),
                            matrix.cols);
            }
        }
    }
    return results;
}

std::vector<Matrix> BaseModel::encode_rows(const Workspace& work, std::span<const TokenSpan> sources,
                                           const PackedRows& rows, EncodeOutput output) const {
    if (output == EncodeOutput::kAll) return encoder_->run(work, sources, rows, {.kept = encoder().layers});
    if (mixer_ && output == EncodeOutput::kFused)
        return {mixer_->fuse(work, *encoder_, sources, rows).make(work.backend)};
    if (mixer_ && output == EncodeOutput::kWeights) return {mixer_->layer_weights(work, *encoder_, sources, rows)};
    return encoder_->run(work, sources, rows);
}

}  // namespace lrengine
