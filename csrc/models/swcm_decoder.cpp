#include "models/swcm_decoder.h"

#include <utility>

#include "models/swcm_weights.h"

namespace lrengine {

namespace {

Weight rows_from(const Weight& table, std::int64_t first) {
    Weight view = table;
    view.data =
        static_cast<const char*>(table.data) + static_cast<std::size_t>(first * table.cols) * size_of(table.dtype);
    view.rows = table.rows - first;
    return view;
}

Dense load_output(const SwcmConfig& config, WeightLoader& loader) {
    const std::string name = "lm_head";
    Dense output;
    if (config.tied_output) {
        output.weight = loader.matrix(BertEncoder::kWordEmbeddings, config.encoder.vocab, config.encoder.width);
        loader.ignore(name + ".weight");
    } else {
        output.weight = loader.matrix(name + ".weight", config.encoder.vocab, config.encoder.width);
    }
    if (config.output_bias) output.bias = loader.vector(name + ".bias", config.encoder.vocab);
    return output;
}

}  // namespace

SwcmDecoder::SwcmDecoder(const SwcmConfig& config, const BertEncoder& encoder, WeightLoader& loader)
    : encoder_(encoder),
      norm_style_(config.norm_style),
      shape_(encoder.attention_shape()),
      target_positions_(rows_from(encoder.embeddings().position, config.encoder.position_offset)),
      layers_(load_swcm_layers(config, encoder, loader)),
      output_(load_output(config, loader)) {
    traits_ = {.layers = static_cast<std::int64_t>(layers_.size()),
               .key_width = shape_.key_width(),
               .hidden = config.encoder.width,
               .vocab = config.encoder.vocab,
               .max_length = config.max_target_positions,
               .cross_attention = true,
               .needs_first_token = true};
}

void SwcmDecoder::feed(const Workspace& work, std::span<const FedSequence> sequences, const PackedRows& rows,
                       const KvCache* cache, std::span<const std::int64_t> cache_begin, const KvCache& cross,
                       const Matrix& hidden) const {
    const ArenaScope scope(work.arena);
    std::vector<TokenSpan> sources;
    std::vector<std::int32_t> tokens;
    for (const FedSequence& sequence : sequences) {
        sources.push_back(sequence.source);
        tokens.insert(tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    }
    const PackedRows source_rows(work, lengths_of(sources));
    SequencePass pass(work, rows, &source_rows, cache, cache_begin, &cross);
    // One buffer: a product of both may take them as one.
    const Matrix both = work.matrix(rows.rows() + source_rows.rows(), traits_.hidden);
    pass.pending = project_sources(work, sources, source_rows, cross, both.slice(rows.rows(), source_rows.rows()));
    embed(work, work.upload(tokens), pass.positions, hidden);
    run(work, pass, hidden, both.slice(0, rows.rows()));
}

std::vector<std::vector<LinearArgs>> SwcmDecoder::project_sources(const Workspace& work,
                                                                  std::span<const TokenSpan> sources,
                                                                  const PackedRows& rows, const KvCache& cross,
                                                                  const Matrix& encoded) const {
    std::vector<std::vector<LinearArgs>> pending(layers_.size());
    if (rows.rows() == 0) return pending;
    encoder_.run(work, sources, rows, {.place = encoded});
    std::vector<LinearArgs> products;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        const AttentionWeights& weights = layers_[i].cross_attention;
        const bool tied = weights.key.weight.data == layers_[i].self_attention.key.weight.data;
        std::vector<LinearArgs>& list = tied ? pending[i] : products;
        list.push_back(product(encoded, weights.key, cross.keys(i)));
        list.push_back(product(encoded, weights.value, cross.values(i)));
    }
    work.backend.linear(products);
    return pending;
}

Matrix SwcmDecoder::advance(const Workspace& work, const StepPass& pass, std::int64_t rows) const {
    const Matrix x = work.residual(rows, traits_.hidden);
    embed(work, pass.tokens, pass.positions, x);
    run(work, pass, x, work.matrix(rows, traits_.hidden));
    return x;
}

void SwcmDecoder::embed(const Workspace& work, const std::int32_t* tokens, const std::int32_t* positions,
                        const Matrix& x) const {
    BertEmbeddings embeddings = encoder_.embeddings();
    embeddings.position = target_positions_;
    embeddings.add_up(work.backend, tokens, positions, x);
}

void SwcmDecoder::run(const Workspace& work, const DecoderPass& pass, const Matrix& x, const Matrix& normed) const {
    const ArenaScope scope(work.arena);
    Stream stream{x, normed, &encoder_.embeddings().norm};
    if (norm_style_ == NormStyle::kPublished) normalize(work.backend, x, *std::exchange(stream.pending, nullptr), x);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        work.check_interruption();
        if (norm_style_ == NormStyle::kPost) {
            run_post(work, pass, i, stream);
        } else if (layers_[i].custom) {
            run_published_custom(work, pass, i, stream);
        } else {
            run_published_normal(work, pass, i, stream);
        }
    }
    // The norm that the last post-norm layer left to the next one.
    if (stream.pending != nullptr) normalize(work.backend, x, *stream.pending, x);
}

// h = LN(x + self(x)); [h = LN(h + FFN1(h));] h = LN(h + cross(h)); h = LN(h + FFN2(h)). A normal layer has no FFN1.
// Each norm is made with the product that reads it first, the last with the next layer's.
void SwcmDecoder::run_post(const Workspace& work, const DecoderPass& pass, std::size_t layer, Stream& stream) const {
    const SwcmLayer& weights = layers_[layer];
    const NormWeights* norm = weights.norms.data();
    const Matrix &x = stream.x, &h = stream.normed;
    self_attention(work, pass, layer, norm_of(x, *stream.pending, h), h, h, x);
    if (weights.custom) feed_forward(work, norm_of(x, *norm++, h), h, weights.ffn1, h, x);
    cross_attention(work, pass, layer, norm_of(x, *norm++, h), h, h, x);
    feed_forward(work, norm_of(x, *norm++, h), h, weights.ffn, h, x);
    stream.pending = norm;
}

// h = self(norm1(x)), without a residual; h += FFN1(norm2(h)); h += cross(norm3(h)); h += FFN2(norm4(h)).
void SwcmDecoder::run_published_custom(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                                       Stream& stream) const {
    const SwcmLayer& weights = layers_[layer];
    const Matrix &x = stream.x, &h = stream.normed;
    self_attention(work, pass, layer, norm_of(x, weights.norms[0], h), h, {}, x);
    feed_forward(work, norm_of(x, weights.norms[1], h), h, weights.ffn1, x, x);
    cross_attention(work, pass, layer, norm_of(x, weights.norms[2], h), h, x, x);
    feed_forward(work, norm_of(x, weights.norms[3], h), h, weights.ffn, x, x);
}

// h = norm1(x); h += self(h); h = norm1(h), the same norm again; h += cross(h); h = norm2(h); h += FFN(h).
void SwcmDecoder::run_published_normal(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                                       Stream& stream) const {
    const SwcmLayer& weights = layers_[layer];
    const Matrix &x = stream.x, &h = stream.normed;
    self_attention(work, pass, layer, norm_of(x, weights.norms[0], h), h, h, x);
    cross_attention(work, pass, layer, norm_of(x, weights.norms[0], h), h, h, x);
    feed_forward(work, norm_of(x, weights.norms[1], h), h, weights.ffn, h, x);
}

void SwcmDecoder::self_attention(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                                 const std::optional<NormArgs>& norm, const Matrix& x, const Matrix& residual,
                                 const Matrix& out) const {
    const ArenaScope scope(work.arena);
    const AttentionWeights& weights = layers_[layer].self_attention;
    const Heads heads = make_heads(work, x.rows, shape_);
    const auto products = products_of(x, weights, heads);
    const CacheTarget target = pass.cache_target(layer);
    work.backend.project_heads({.norm = norm,
                                .products = products,
                                .query_norm = {},
                                .key_norm = {},
                                .query_rope = {},
                                .key_rope = {},
                                .key_cache = target.keys,
                                .value_cache = target.values,
                                .cache_rows = target.rows,
                                .cache_only = target.only,
                                .beside = pass.source_projections(layer)});
    const Matrix mixed = work.matrix(x.rows, shape_.query_width());
    pass.attend_self(work, layer, shape_, heads, product(mixed, weights.out, out, residual));
}

void SwcmDecoder::cross_attention(const Workspace& work, const DecoderPass& pass, std::size_t layer,
                                  const std::optional<NormArgs>& norm, const Matrix& x, const Matrix& residual,
                                  const Matrix& out) const {
    const ArenaScope scope(work.arena);
    const AttentionWeights& weights = layers_[layer].cross_attention;
    const Matrix query = work.matrix(x.rows, shape_.query_width());
    const LinearArgs projection = product(x, weights.query, query);
    work.backend.normed_linear({.norm = norm, .products = std::span(&projection, 1)});
    const Matrix mixed = work.matrix(x.rows, shape_.query_width());
    pass.attend_source(work, layer, shape_, query, product(mixed, weights.out, out, residual));
}

}  // namespace lrengine
