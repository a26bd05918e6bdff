// out_i = sum_j softmax_j(scale q_i . k_j + bias(i, j)) v_j, per head; grouped queries share a key head.
#pragma once

#include "core/tensor.h"

namespace lrengine {

// T5's learned bias by distance (arXiv 1910.10683, section 2.1): table [buckets, H], shared by the layers of a stack.
struct RelativeBias {
    const float* table = nullptr;
    std::int64_t buckets = 0;
    std::int64_t max_distance = 0;
    bool bidirectional = true;
};

// Whole sequences at once. q [Mq, H*d], k and v [Mk, Hkv*d], out [Mq, H*d]; query sequence b attends to key sequence b
// of `keys`. Causal: query i of a sequence sees keys j <= i + (key length - query length). A sequence with no keys
// gives zeros.
struct AttentionArgs {
    Matrix q, k, v, out;
    Packing queries, keys;
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;
    std::int64_t head_dim = 0;
    float scale = 1.0f;
    bool causal = false;
    RelativeBias bias;
};

// One query a row against cached keys. Key t of row m is physical row
//     table ? table[m * capacity + t] * capacity + t : begin[m] + t          for t < length[m]
// of k and v ([*, Hkv*d]). `table` names, for each position, the slot that wrote it (beams share history without
// copies); without it a row's keys are contiguous (own slot: begin = slot * capacity; cross attention: begin = source
// offset).
struct CachedAttentionArgs {
    Matrix q, out;  // [M, H*d]
    Matrix k, v;
    const std::int32_t* begin = nullptr;   // [M], unused with a table
    const std::int32_t* length = nullptr;  // [M]
    const std::int32_t* table = nullptr;   // [M, capacity] or null
    std::int64_t capacity = 0;
    std::int64_t heads = 0;
    std::int64_t kv_heads = 0;
    std::int64_t head_dim = 0;
    float scale = 1.0f;
    std::int64_t longest = 0;  // no length is more, which a device may shape its work by; 0: not known
};

}  // namespace lrengine
