#include "models/latent_mapper.h"

#include <array>

namespace lrengine {

namespace {

constexpr float kEps = 1e-5f;  // torch.nn.LayerNorm's, which the resampler uses

LatentLayer load_layer(const MapperConfig& config, const AttentionShape& shape, std::int64_t width,
                       WeightLoader& loader, std::int64_t index) {
    const std::string prefix = "mapper.layers." + std::to_string(index) + ".", attention = prefix + "attention.";
    LatentLayer layer;
    layer.media_norm = load_layer_norm(loader, attention + "norm_media", width, kEps);
    layer.latents_norm = load_layer_norm(loader, attention + "norm_latents", width, kEps);
    const AttentionNames names{attention + "to_q", attention + "to_k", attention + "to_v", attention + "to_out"};
    layer.attention = load_attention(loader, names, shape, width, Bias::kNone);
    layer.ffn.in = load_dense(loader, prefix + "fc_in", config.ffn, width, Bias::kPresent);
    layer.ffn.out = load_dense(loader, prefix + "fc_out", width, config.ffn, Bias::kPresent);
    layer.ffn.activation = Activation::kGelu;
    return layer;
}

}  // namespace

struct LatentMapper::Seen {
    PackedRows latents, all;
    const std::int32_t* media_rows;    // where source row m goes
    const std::int32_t* latents_rows;  // where latent row m goes

    static Seen of(const Workspace& work, const Packing& sources, std::int64_t latents) {
        std::vector<std::int64_t> own(static_cast<std::size_t>(sources.count), latents), together;
        std::vector<std::int32_t> media, mine;
        std::int32_t row = 0;
        for (std::int64_t b = 0; b < sources.count; ++b) {
            together.push_back(sources.length(b) + latents);
            for (std::int64_t t = 0; t < sources.length(b); ++t) media.push_back(row++);
            for (std::int64_t t = 0; t < latents; ++t) mine.push_back(row++);
        }
        return {PackedRows(work, own), PackedRows(work, together), work.upload(media), work.upload(mine)};
    }
};

LatentMapper::LatentMapper(const MapperConfig& config, std::int64_t width, std::int64_t llm_width, WeightLoader& loader)
    : shape_(multi_head(config.heads, config.head_dim)),
      latents_(loader.matrix("mapper.latents", config.latents, width)) {
    for (std::int64_t i = 0; i < config.depth; ++i) layers_.push_back(load_layer(config, shape_, width, loader, i));
    out_ = load_dense(loader, "mapper.out_proj", llm_width, width, Bias::kNone);
    norm_ = load_layer_norm(loader, "mapper.norm", llm_width, kEps);
}

void LatentMapper::run(const Workspace& work, const FusedTokens& tokens, const Packing& sources,
                       const Matrix& out) const {
    const ArenaScope scope(work.arena);
    const Matrix fused = tokens.make(work.backend);
    const Seen seen = Seen::of(work, sources, latents_.rows);
    std::vector<std::int32_t> ids;
    for (std::int64_t m = 0; m < seen.latents.rows(); ++m) ids.push_back(static_cast<std::int32_t>(m % latents_.rows));
    const Matrix x = work.residual(seen.latents.rows(), latents_.cols);
    work.backend.embedding({.ids = work.upload(ids), .word = latents_, .position = {}, .type = {}, .out = x});
    for (const LatentLayer& layer : layers_) {
        work.check_interruption();
        run_layer(work, layer, fused, seen, x);
    }
    work.backend.linear(product(x, out_, out));
    normalize(work.backend, out, norm_, out);
}

void LatentMapper::run_layer(const Workspace& work, const LatentLayer& layer, const Matrix& fused, const Seen& seen,
                             const Matrix& x) const {
    const ArenaScope scope(work.arena);
    const Matrix inputs = work.matrix(seen.all.rows(), x.cols), latents = work.matrix(x.rows, x.cols);
    if (fused.rows > 0) {
        const Matrix media = work.matrix(fused.rows, fused.cols);
        normalize(work.backend, fused, layer.media_norm, media);
        work.backend.scatter_rows({.source = media, .destination = inputs, .rows = seen.media_rows});
    }
    normalize(work.backend, x, layer.latents_norm, latents);
    work.backend.scatter_rows({.source = latents, .destination = inputs, .rows = seen.latents_rows});

    const Matrix query = work.matrix(x.rows, shape_.query_width()), mixed = work.matrix(x.rows, shape_.query_width());
    const Matrix key = work.matrix(inputs.rows, shape_.key_width()), value = work.matrix(inputs.rows, key.cols);
    const std::array products{product(latents, layer.attention.query, query), product(inputs, layer.attention.key, key),
                              product(inputs, layer.attention.value, value)};
    work.backend.linear(products);
    work.backend.attention({.q = query,
                            .k = key,
                            .v = value,
                            .out = mixed,
                            .queries = seen.latents.view(),
                            .keys = seen.all.view(),
                            .heads = shape_.heads,
                            .kv_heads = shape_.kv_heads,
                            .head_dim = shape_.head_dim,
                            .scale = shape_.scale,
                            .causal = false,
                            .bias = {}});
    work.backend.linear(product(mixed, layer.attention.out, x, x));
    feed_forward(work, x, layer.ffn, x, x);
}

}  // namespace lrengine
