#include "models/bert_encoder.h"

namespace lrengine {

namespace {

BertEmbeddings load_embeddings(const EncoderConfig& config, WeightLoader& loader) {
    const std::string prefix = "encoder.embeddings.";
    BertEmbeddings embeddings;
    embeddings.word = loader.embeddings(BertEncoder::kWordEmbeddings, config.vocab, config.width);
    embeddings.position = loader.table(prefix + "position_embeddings.weight", config.position_rows, config.width);
    const Vector types = loader.rows_of(prefix + "token_type_embeddings.weight", config.type_vocab, config.width);
    embeddings.type = {types.data, config.width};
    embeddings.norm = load_layer_norm(loader, prefix + "LayerNorm", config.width, config.eps);
    // Buffers that older releases of transformers stored, and a pooler that nothing here reads.
    for (const char* buffer :
         {"embeddings.position_ids", "embeddings.token_type_ids", "pooler.dense.weight", "pooler.dense.bias"})
        loader.ignore(std::string("encoder.") + buffer);
    return embeddings;
}

BertLayer load_layer(const EncoderConfig& config, const AttentionShape& shape, WeightLoader& loader,
                     std::int64_t index) {
    const std::string prefix = "encoder.encoder.layer." + std::to_string(index) + ".";
    const AttentionNames names{prefix + "attention.self.query", prefix + "attention.self.key",
                               prefix + "attention.self.value", prefix + "attention.output.dense"};
    BertLayer layer;
    layer.attention = load_attention(loader, names, shape, config.width, Bias::kPresent);
    layer.attention_norm = load_layer_norm(loader, prefix + "attention.output.LayerNorm", config.width, config.eps);
    layer.ffn.in = load_dense(loader, prefix + "intermediate.dense", config.ffn, config.width, Bias::kPresent);
    layer.ffn.out = load_dense(loader, prefix + "output.dense", config.width, config.ffn, Bias::kPresent);
    layer.ffn.activation = config.activation;
    layer.output_norm = load_layer_norm(loader, prefix + "output.LayerNorm", config.width, config.eps);
    return layer;
}

}  // namespace

void BertEmbeddings::add_up(Backend& backend, const std::int32_t* ids, const std::int32_t* positions,
                            const Matrix& out) const {
    backend.embedding(
        {.ids = ids, .positions = positions, .word = word, .position = position, .type = type, .out = out});
}

BertEncoder::BertEncoder(const EncoderConfig& config, WeightLoader& loader)
    : Encoder(config), shape_(multi_head(config.heads, config.head_dim)), embeddings_(load_embeddings(config, loader)) {
    for (std::int64_t i = 0; i < config.layers; ++i) layers_.push_back(load_layer(config, shape_, loader, i));
}

Matrix BertEncoder::make_state(const Workspace& work, std::int64_t rows) const {
    return work.matrix(rows, config().width);
}

void BertEncoder::embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
                        const Matrix& out) const {
    const Matrix sum = work.residual(out.rows, out.cols);
    embeddings_.add_up(work.backend, ids, positions, sum);
    normalize(work.backend, sum, embeddings_.norm, out);
}

void BertEncoder::run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                            const Matrix& out) const {
    const BertLayer& weights = layers_[static_cast<std::size_t>(layer)];
    const Matrix sum = work.residual(x.rows, x.cols), hidden = work.matrix(x.rows, x.cols);
    attend_within(work, x, weights.attention, shape_, sequences, {}, x, sum);
    normalize(work.backend, sum, weights.attention_norm, hidden);
    feed_forward(work, hidden, weights.ffn, hidden, sum);
    normalize(work.backend, sum, weights.output_norm, out);
}

}  // namespace lrengine
