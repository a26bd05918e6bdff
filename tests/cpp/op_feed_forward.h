// A call of feed_forward() with everything that it can have, on random numbers.
#pragma once

#include <optional>

#include "op_testing.h"

namespace op_testing {

// Where the result goes: memory of its own, or the residual stream, which the block also reads.
enum class Place { kOwn, kStream, kStreamOfNormed };

struct BlockCase {
    DType type = DType::kBFloat16;
    std::int64_t rows = 3, cols = 64, inner = 96, outputs = 37;
    bool gated = false;
    std::optional<NormKind> norm = NormKind::kLayerNorm;
    Activation activation = Activation::kGelu;
    bool residual = true;
    Place place = Place::kOwn;
};

struct Block {
    BlockCase setup;
    TestMatrix x;
    TestVector norm_weight, norm_bias;
    TestMatrix normed;
    TestWeight gate, in, last;
    TestVector gate_bias, in_bias, last_bias;
    TestMatrix gate_out, hidden, residual, out;

    Block(const BlockCase& c, Random& random)
        : setup(c),
          x(c.rows, c.cols, random, 3, c.norm ? DType::kFloat32 : activation_type()),
          norm_weight(random.floats(c.cols)),
          norm_bias(random.floats(c.cols)),
          normed(c.rows, c.cols, 8),
          gate(c.type, c.inner, c.cols, random),
          in(c.type, c.inner, c.cols, random),
          last(c.type, c.outputs, c.inner, random),
          gate_bias(random.floats(c.inner)),
          in_bias(random.floats(c.inner)),
          last_bias(random.floats(c.outputs)),
          gate_out(c.rows, c.inner, 2),
          hidden(c.rows, c.inner, 8),
          residual(c.rows, c.outputs, random, 3, DType::kFloat32),
          out(c.rows, c.outputs, 5, DType::kFloat32) {}

    // As models call it: post-norm layers add to the norm's output, pre-norm layers to its input; both write to that.
    Matrix residual_view() const {
        if (!setup.residual) return {};
        if (setup.place == Place::kStreamOfNormed) return normed.view();
        return setup.place == Place::kStream ? x.view() : residual.view();
    }
    const TestMatrix& result() const { return setup.place == Place::kOwn ? out : x; }

    FeedForwardArgs args() const {
        const Matrix input = setup.norm ? normed.view() : x.view();
        FeedForwardArgs args{.norm = {},
                             .gate = {},
                             .in = {input, in.view(), in_bias.view(), {}, hidden.view()},
                             .activation = setup.activation,
                             .out = {hidden.view(), last.view(), last_bias.view(), residual_view(), result().view()}};
        if (setup.gated) args.gate = {input, gate.view(), gate_bias.view(), {}, gate_out.view()};
        if (setup.norm) {
            const bool layer_norm = setup.norm == NormKind::kLayerNorm;
            args.norm = NormArgs{x.view(), norm_weight.view(), layer_norm ? norm_bias.view() : Vector{}, *setup.norm,
                                 1e-5f,    normed.view()};
        }
        return args;
    }
};

}  // namespace op_testing
