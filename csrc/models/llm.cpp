#include "models/llm.h"

#include "models/host_copy.h"

namespace lrengine {

namespace {

constexpr const char* kWordEmbeddings = "llm.model.embed_tokens.weight";

Bias bias_if(bool present) { return present ? Bias::kPresent : Bias::kNone; }

// The heads of all rows as rows of their own: [M, H*d] seen as [M*H, d]. `x` has no gaps.
Matrix rows_of_heads(const Matrix& x, std::int64_t head_dim) {
    return {x.data, x.dtype, x.rows * (x.cols / head_dim), head_dim, head_dim};
}

}  // namespace

Llm::Llm(const LlmConfig& config, WeightLoader& loader, Backend& backend, WeightStorage& storage)
    : config_(config),
      shape_(multi_head(config.heads, config.head_dim)),
      word_(loader.embeddings(kWordEmbeddings, config.vocab, config.width)),
      inv_freq_(store(config.inv_freq, backend, storage)) {
    shape_.kv_heads = config.kv_heads;
    for (std::int64_t i = 0; i < config.layers; ++i) layers_.push_back(load_layer(loader, i));
    final_norm_ = load_rms_norm(loader, "llm.model.norm", config.width, config.eps);
    const std::string output = "llm.lm_head.weight";
    if (config.tied_output) {
        output_.weight = loader.matrix(kWordEmbeddings, config.vocab, config.width);
        loader.ignore(output);
    } else {
        output_.weight = loader.matrix(output, config.vocab, config.width);
    }
}

LlmLayer Llm::load_layer(WeightLoader& loader, std::int64_t index) const {
    const std::string prefix = "llm.model.layers." + std::to_string(index) + ".";
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    const std::int64_t width = config_.width;
    const Bias qkv_bias = bias_if(config_.attention_bias), mlp_bias = bias_if(config_.mlp_bias);
    LlmLayer layer;
    layer.input_norm = load_rms_norm(loader, prefix + "input_layernorm", width, config_.eps);
    layer.post_attention_norm = load_rms_norm(loader, prefix + "post_attention_layernorm", width, config_.eps);
    layer.attention.query = load_dense(loader, attention + "q_proj", shape_.query_width(), width, qkv_bias);
    layer.attention.key = load_dense(loader, attention + "k_proj", shape_.key_width(), width, qkv_bias);
    layer.attention.value = load_dense(loader, attention + "v_proj", shape_.key_width(), width, qkv_bias);
    layer.attention.out =
        load_dense(loader, attention + "o_proj", width, shape_.query_width(), bias_if(config_.attention_output_bias));
    if (config_.qk_norm) {
        layer.query_norm = load_rms_norm(loader, attention + "q_norm", config_.head_dim, config_.eps);
        layer.key_norm = load_rms_norm(loader, attention + "k_norm", config_.head_dim, config_.eps);
    }
    layer.ffn.gate = load_dense(loader, mlp + "gate_proj", config_.ffn, width, mlp_bias);
    layer.ffn.in = load_dense(loader, mlp + "up_proj", config_.ffn, width, mlp_bias);
    layer.ffn.out = load_dense(loader, mlp + "down_proj", width, config_.ffn, mlp_bias);
    layer.ffn.activation = config_.activation;
    loader.ignore(attention + "rotary_emb.inv_freq");  // a buffer that older releases of transformers stored
    return layer;
}

void Llm::embed(const Workspace& work, const std::int32_t* tokens, const Matrix& out) const {
    work.backend.embedding({.ids = tokens, .word = word_, .position = {}, .type = {}, .out = out});
}

void Llm::run(const Workspace& work, const DecoderPass& pass, const Matrix& x) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
        work.check_interruption();
        const ArenaScope scope(work.arena);
        const Matrix normed = work.matrix(x.rows, x.cols);
        attend(work, pass, i, normed, x);
        feed_forward(work, norm_of(x, layers_[i].post_attention_norm, normed), normed, layers_[i].ffn, x, x);
    }
}

// x += Wo attention(norm(x)); `normed` is scratch.
void Llm::attend(const Workspace& work, const DecoderPass& pass, std::size_t layer, const Matrix& normed,
                 const Matrix& x) const {
    const ArenaScope scope(work.arena);
    const LlmLayer& weights = layers_[layer];
    const Heads heads = make_heads(work, x.rows, shape_);
    const auto products = products_of(normed, weights.attention, heads);
    const CacheTarget target = pass.cache_target(layer);
    const auto rotation = [&](const Matrix& rows, std::int64_t count) {
        return RopeArgs{.x = rows,
                        .positions = pass.positions,
                        .inv_freq = inv_freq_,
                        .heads = count,
                        .head_dim = shape_.head_dim,
                        .attention_scaling = config_.attention_scaling};
    };
    ProjectHeadsArgs args{.norm = norm_of(x, weights.input_norm, normed),
                          .products = products,
                          .query_norm = {},
                          .key_norm = {},
                          .query_rope = rotation(heads.query, shape_.heads),
                          .key_rope = rotation(heads.key, shape_.kv_heads),
                          .key_cache = target.keys,
                          .value_cache = target.values,
                          .cache_rows = target.rows,
                          .cache_only = target.only};
    if (config_.qk_norm) {
        const Matrix queries = rows_of_heads(heads.query, shape_.head_dim);
        const Matrix keys = rows_of_heads(heads.key, shape_.head_dim);
        args.query_norm = norm_of(queries, weights.query_norm, queries);
        args.key_norm = norm_of(keys, weights.key_norm, keys);
    }
    work.backend.project_heads(args);
    const Matrix mixed = work.matrix(x.rows, shape_.query_width());
    pass.attend_self(work, layer, shape_, heads, product(mixed, weights.attention.out, x, x));
}

Matrix Llm::normalized(const Workspace& work, const Matrix& hidden) const {
    const Matrix normed = work.matrix(hidden.rows, hidden.cols);
    normalize(work.backend, hidden, final_norm_, normed);
    return normed;
}

}  // namespace lrengine
