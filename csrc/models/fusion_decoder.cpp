#include "models/fusion_decoder.h"

#include <numeric>

namespace lrengine {

namespace {

Weight load_end_boundary(WeightLoader& loader, std::int64_t width) {
    const Vector vector = loader.vector("end_boundary", width);
    return {.data = vector.data, .dtype = DType::kFloat32, .rows = 1, .cols = width};
}

void append_range(std::vector<std::int32_t>& rows, std::int64_t first, std::int64_t count) {
    const std::size_t old = rows.size();
    rows.resize(old + static_cast<std::size_t>(count));
    std::iota(rows.begin() + static_cast<std::ptrdiff_t>(old), rows.end(), static_cast<std::int32_t>(first));
}

}  // namespace

FusionDecoder::FusionDecoder(const FusionConfig& config, std::optional<std::int64_t> bos, const Encoder& encoder,
                             const Mixer& mixer, WeightLoader& loader, Backend& backend, WeightStorage& storage)
    : encoder_(encoder),
      mixer_(mixer),
      mapper_(load_mapper(config.mapper, config.encoder.width, config.llm.width, loader)),
      end_boundary_(load_end_boundary(loader, config.llm.width)),
      llm_(config.llm, loader, backend, storage) {
    if (bos) bos_.push_back(static_cast<std::int32_t>(*bos));
    traits_ = {.layers = config.llm.layers,
               .key_width = llm_.attention_shape().key_width(),
               .hidden = config.llm.width,
               .vocab = config.llm.vocab,
               .max_length = config.llm.max_positions,
               .window = config.llm.sliding_window,
               .takes_prompt = true};
}

std::int64_t FusionDecoder::prefix_length(TokenSpan source, TokenSpan prompt) const {
    const std::int64_t boundary = 1;
    return static_cast<std::int64_t>(bos_.size()) + mapped_length(source) + boundary +
           static_cast<std::int64_t>(prompt.size());
}

void FusionDecoder::feed(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                         const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache&,
                         const Matrix& hidden) const {
    const ArenaScope scope(work.arena);
    place_sources(work, sequences, rows, hidden);
    place_tokens(work, sequences, rows, hidden);
    const SequencePass pass(work, rows, nullptr, cache, cache_begin, nullptr);
    llm_.run(work, pass, hidden);
}

void FusionDecoder::place_sources(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                                  const Matrix& x) const {
    const ArenaScope scope(work.arena);
    std::vector<TokenSpan> sources;
    std::vector<std::int32_t> destinations;
    for (std::size_t b = 0; b < sequences.size(); ++b) {
        sources.push_back(sequences[b].source);
        const std::int64_t first = rows.begin(static_cast<std::int64_t>(b)) + static_cast<std::int64_t>(bos_.size());
        append_range(destinations, first, mapped_length(sequences[b].source));
    }
    if (destinations.empty()) return;
    const PackedRows source_rows(work, lengths_of(sources));
    const Matrix mapped = work.residual(static_cast<std::int64_t>(destinations.size()), x.cols);
    mapper_->run(work, mixer_.fuse(work, encoder_, sources, source_rows), source_rows.view(), mapped);
    work.backend.scatter_rows({.source = mapped, .destination = x, .rows = work.upload(destinations)});
}

void FusionDecoder::place_tokens(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                                 const Matrix& x) const {
    const ArenaScope scope(work.arena);
    std::vector<std::int32_t> ids, id_rows, boundary_rows;
    const auto place = [&](TokenSpan tokens, std::int64_t first) {
        ids.insert(ids.end(), tokens.begin(), tokens.end());
        append_range(id_rows, first, static_cast<std::int64_t>(tokens.size()));
        return first + static_cast<std::int64_t>(tokens.size());
    };
    for (std::size_t b = 0; b < sequences.size(); ++b) {
        std::int64_t row = place(bos_, rows.begin(static_cast<std::int64_t>(b))) + mapped_length(sequences[b].source);
        append_range(boundary_rows, row++, 1);
        row = place(sequences[b].prompt, row);
        place(sequences[b].tokens, row);
    }
    const std::vector<std::int32_t> zeros(boundary_rows.size(), 0);
    const Matrix boundaries = work.residual(static_cast<std::int64_t>(zeros.size()), x.cols);
    work.backend.embedding(
        {.ids = work.upload(zeros), .word = end_boundary_, .position = {}, .type = {}, .out = boundaries});
    work.backend.scatter_rows({.source = boundaries, .destination = x, .rows = work.upload(boundary_rows)});
    if (ids.empty()) return;
    const Matrix embedded = work.residual(static_cast<std::int64_t>(ids.size()), x.cols);
    llm_.embed(work, work.upload(ids), embedded);
    work.backend.scatter_rows({.source = embedded, .destination = x, .rows = work.upload(id_rows)});
}

Matrix FusionDecoder::advance(const Workspace& work, const StepPass& pass, std::int64_t rows) const {
    const Matrix x = work.residual(rows, traits_.hidden);
    llm_.embed(work, pass.tokens, x);
    llm_.run(work, pass, x);
    return x;
}

}  // namespace lrengine
