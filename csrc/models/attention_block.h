// Attention with its projections: the same four products around every attention of every model.
#pragma once

#include <array>

#include "models/layers.h"
#include "models/workspace.h"

namespace lrengine {

struct AttentionShape {
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;
    std::int64_t head_dim = 0;
    float scale = 1.0f;

    std::int64_t query_width() const { return heads * head_dim; }
    std::int64_t key_width() const { return kv_heads * head_dim; }
};

// Every head has its own keys; scale 1 / sqrt(head_dim).
AttentionShape multi_head(std::int64_t heads, std::int64_t head_dim);

struct AttentionWeights {
    Dense query, key, value, out;
};

// The names of the four projections below a prefix.
struct AttentionNames {
    std::string query, key, value, out;
};

AttentionWeights load_attention(WeightLoader& loader, const AttentionNames& names, const AttentionShape& shape,
                                std::int64_t width, Bias bias);

struct Heads {
    Matrix query;  // [M, H*d]
    Matrix key;    // [M, Hkv*d]
    Matrix value;  // [M, Hkv*d]
};

Heads make_heads(const Workspace& work, std::int64_t rows, const AttentionShape& shape);

// q, k and v of x [M, D] as products that write to `heads`.
std::array<LinearArgs, 3> products_of(const Matrix& x, const AttentionWeights& weights, const Heads& heads);

// Attention of whole packed sequences to themselves: out = Wo softmax(q k^T) v + residual (null: none).
void attend_within(const Workspace& work, const Matrix& x, const AttentionWeights& weights, const AttentionShape& shape,
                   const Packing& sequences, const RelativeBias& bias, const Matrix& residual, const Matrix& out);

}  // namespace lrengine
