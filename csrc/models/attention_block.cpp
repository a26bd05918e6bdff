#include "models/attention_block.h"

#include <array>
#include <cmath>

namespace lrengine {

AttentionShape multi_head(std::int64_t heads, std::int64_t head_dim) {
    return {heads, heads, head_dim, static_cast<float>(1.0 / std::sqrt(static_cast<double>(head_dim)))};
}

AttentionWeights load_attention(WeightLoader& loader, const AttentionNames& names, const AttentionShape& shape,
                                std::int64_t width, Bias bias) {
    return {.query = load_dense(loader, names.query, shape.query_width(), width, bias),
            .key = load_dense(loader, names.key, shape.key_width(), width, bias),
            .value = load_dense(loader, names.value, shape.key_width(), width, bias),
            .out = load_dense(loader, names.out, width, shape.query_width(), bias)};
}

Heads make_heads(const Workspace& work, std::int64_t rows, const AttentionShape& shape) {
    return {work.matrix(rows, shape.query_width()), work.matrix(rows, shape.key_width()),
            work.matrix(rows, shape.key_width())};
}

std::array<LinearArgs, 3> products_of(const Matrix& x, const AttentionWeights& weights, const Heads& heads) {
    return {product(x, weights.query, heads.query), product(x, weights.key, heads.key),
            product(x, weights.value, heads.value)};
}

void attend_within(const Workspace& work, const Matrix& x, const AttentionWeights& weights, const AttentionShape& shape,
                   const Packing& sequences, const RelativeBias& bias, const Matrix& residual, const Matrix& out) {
    const Heads heads = make_heads(work, x.rows, shape);
    work.backend.linear(products_of(x, weights, heads));
    const Matrix mixed = work.matrix(x.rows, shape.query_width());
    work.backend.attention({.q = heads.query,
                            .k = heads.key,
                            .v = heads.value,
                            .out = mixed,
                            .queries = sequences,
                            .keys = sequences,
                            .heads = shape.heads,
                            .kv_heads = shape.kv_heads,
                            .head_dim = shape.head_dim,
                            .scale = shape.scale,
                            .causal = false,
                            .bias = bias});
    work.backend.linear(product(mixed, weights.out, out, residual));
}

}  // namespace lrengine
