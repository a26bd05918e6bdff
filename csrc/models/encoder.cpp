#include "models/encoder.h"

#include "core/error.h"
#include "models/bert_encoder.h"
#include "models/m2m100_encoder.h"
#include "models/t5_encoder.h"

namespace lrengine {

std::vector<Matrix> Encoder::run(const Workspace& work, std::span<const TokenSpan> sources, const PackedRows& rows,
                                 const StateUse& use) const {
    std::vector<Matrix> states;
    for (std::int64_t i = 0; i < use.kept; ++i) states.push_back(use.place ? use.place : make_state(work, rows.rows()));
    if (rows.rows() == 0) return states;

    const ArenaScope scope(work.arena);
    std::vector<std::int32_t> ids, positions;
    for (const TokenSpan source : sources) {
        ids.insert(ids.end(), source.begin(), source.end());
        append_positions(source, positions);
    }
    Matrix x = states.front();
    embed(work, work.upload(ids), work.upload(positions), x);
    for (std::int64_t layer = 0; layer < config_.layers; ++layer) {
        work.check_interruption();
        const ArenaScope layer_scope(work.arena);
        const Matrix out = states[static_cast<std::size_t>(layer % use.kept)];
        run_layer(work, layer, x, rows.view(), out);
        x = out;
        const bool last = layer + 1 == config_.layers;
        if (last) finish(work, x);
        if (!use.read || ((layer + 1) % use.at_once != 0 && !last)) continue;
        const std::int64_t first = layer - layer % use.at_once;
        const auto slot = static_cast<std::size_t>(first % use.kept),
                   count = static_cast<std::size_t>(layer + 1 - first);
        use.read(first, std::span(states).subspan(slot, count));
    }
    return states;
}

void Encoder::append_positions(TokenSpan source, std::vector<std::int32_t>& positions) const {
    const auto first = static_cast<std::int32_t>(config_.position_offset);
    std::int32_t next = first;
    for (const std::int32_t id : source) {
        const bool pad = first > 0 && id == config_.pad_id;
        positions.push_back(pad ? id : next++);
    }
}

Matrix Encoder::make_state(const Workspace& work, std::int64_t rows) const {
    return work.residual(rows, config_.width);
}

void Encoder::finish(const Workspace&, const Matrix&) const {}

std::unique_ptr<Encoder> load_encoder(const EncoderConfig& config, WeightLoader& loader, Backend& backend,
                                      WeightStorage& storage) {
    switch (config.kind) {
        case EncoderKind::kBert:
            return std::make_unique<BertEncoder>(config, loader);
        case EncoderKind::kT5:
            return std::make_unique<T5Encoder>(config, loader);
        case EncoderKind::kM2M100:
            return std::make_unique<M2M100Encoder>(config, loader, backend, storage);
    }
    fail(ErrorCode::kInternal, "unknown encoder kind");
}

}  // namespace lrengine
