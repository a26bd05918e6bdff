// Chains of ops that a device may run as one. Each says which ops it stands for; Backend runs just those by default.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/layer_mix.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"

namespace lrengine {

// norm(norm), then linear(products), whose x is norm.out. norm.out is other memory than norm.x: a device may write it
// while it still reads x.
struct NormedLinearArgs {
    std::optional<NormArgs> norm;  // absent: linear() alone
    std::span<const LinearArgs> products;
};

// The heads of an attention: norm(norm), linear(products), then on their outputs query_norm, key_norm, query_rope and
// key_rope where they are there, then the keys and values to rows of a cache.
struct ProjectHeadsArgs {
    std::optional<NormArgs> norm;
    std::span<const LinearArgs> products;          // q, k, v
    std::optional<NormArgs> query_norm, key_norm;  // per head, in place
    std::optional<RopeArgs> query_rope, key_rope;
    Matrix key_cache, value_cache;             // null: no cache
    const std::int32_t* cache_rows = nullptr;  // [M]
    bool cache_only = false;                   // nobody reads the outputs of k and v: they may be left unwritten
    // More products, of other rows: made with the first where they read the same weights (keys and values of a source).
    std::span<const LinearArgs> beside = {};
};

// norm(norm), linear({gate, up}), then out = activation(gate.out) * up.out; gate.out and up.out may be left unwritten.
struct GatedLinearArgs {
    std::optional<NormArgs> norm;
    LinearArgs gate, up;
    Activation activation = Activation::kSilu;
    Matrix out;
};

// layer_mix(mix), then linear({product}), whose x is mix.fused; that may be left unwritten.
struct MixedLinearArgs {
    LayerMixArgs mix;
    LinearArgs product;
};

// cached_attention(attention), then linear(out), whose x is attention.out; that may be left unwritten.
struct AttendProjectArgs {
    CachedAttentionArgs attention;
    LinearArgs out;
};

// A feed-forward block of two products, or with a gate (its weight is null without one) of three: norm(norm), then
//     activation(linear(in))    or    activation(linear(gate)) * linear(in)
// to out.x, then linear(out). in, gate and out have no activation of their own, in and gate no residual. out.x,
// and what in and gate write, may be left unwritten. out.out may be the memory of norm.x, norm.out or in.x, row by row.
struct FeedForwardArgs {
    std::optional<NormArgs> norm;
    LinearArgs gate, in;
    Activation activation = Activation::kNone;
    LinearArgs out;
};

}  // namespace lrengine
