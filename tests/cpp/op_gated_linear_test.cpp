// A gated feed-forward half, which a device may run as one: norm, two products, activation(gate) * up.
#include <optional>

#include "op_testing.h"

namespace {

using namespace op_testing;

struct GatedCase {
    DType gate = DType::kBFloat16, up = DType::kBFloat16;
    std::int64_t rows = 3, cols = 64, outputs = 37;
    Activation activation = Activation::kSilu;
    std::optional<NormKind> norm = NormKind::kRmsNorm;
    bool bias = true;
};

struct Gated {
    GatedCase setup;
    TestMatrix x;
    TestVector norm_weight, norm_bias;
    TestMatrix normed;
    TestWeight gate, up;
    TestVector gate_bias, up_bias;
    TestMatrix gate_out, up_out, out;

    Gated(const GatedCase& c, Random& random)
        : setup(c),
          x(c.rows, c.cols, random, 3, c.norm ? DType::kFloat32 : activation_type()),
          norm_weight(random.floats(c.cols)),
          norm_bias(random.floats(c.cols)),
          normed(c.rows, c.cols, 8),
          gate(c.gate, c.outputs, c.cols, random),
          up(c.up, c.outputs, c.cols, random),
          gate_bias(random.floats(c.outputs)),
          up_bias(random.floats(c.outputs)),
          gate_out(c.rows, c.outputs, 2),
          up_out(c.rows, c.outputs, 1),
          out(c.rows, c.outputs, 5) {}

    bool layer_norm() const { return setup.norm == NormKind::kLayerNorm; }

    GatedLinearArgs args() const {
        const Matrix input = setup.norm ? normed.view() : x.view();
        GatedLinearArgs args{.norm = {},
                             .gate = {input, gate.view(), {}, {}, gate_out.view()},
                             .up = {input, up.view(), {}, {}, up_out.view()},
                             .activation = setup.activation,
                             .out = out.view()};
        if (setup.norm) {
            args.norm = NormArgs{x.view(), norm_weight.view(), layer_norm() ? norm_bias.view() : Vector{}, *setup.norm,
                                 1e-5f,    normed.view()};
        }
        if (setup.bias) args.gate.bias = gate_bias.view();
        if (setup.bias) args.up.bias = up_bias.view();
        return args;
    }

    std::vector<double> row(std::int64_t m) const {
        std::vector<double> values;
        double mean = 0, squares = 0;
        const auto cols = static_cast<double>(setup.cols);
        for (std::int64_t c = 0; c < setup.cols && layer_norm(); ++c) mean += x.at(m, c) / cols;
        for (std::int64_t c = 0; c < setup.cols; ++c) squares += std::pow(x.at(m, c) - mean, 2) / cols;
        const double factor = setup.norm ? 1 / std::sqrt(squares + 1e-5f) : 1.0;
        for (std::int64_t c = 0; c < setup.cols; ++c) {
            const double weight = setup.norm ? norm_weight[c] : 1.0, bias = layer_norm() ? norm_bias[c] : 0.0;
            values.push_back((x.at(m, c) - mean) * factor * weight + bias);
        }
        return values;
    }
};

// A sum, and what rounding the norm's output and the sum itself to the activations' type may have changed.
struct Sum {
    double value, error;
};

Sum sum_of(const std::vector<double>& x, const TestWeight& weight, std::int64_t n, double bias) {
    double sum = bias, size = 1;
    for (std::size_t c = 0; c < x.size(); ++c) {
        const double term = x[c] * weight.at(n, static_cast<std::int64_t>(c));
        sum += term;
        size += std::abs(term);
    }
    const double rounded = rounding(activation_type());
    return {sum, (1e-6 + rounded) * size + rounded * std::abs(sum) + input_error(x, weight, n)};
}

// No activation is steeper than 1.13.
void check_out(const Gated& test) {
    CHECK(test.out.is_written_exactly());
    for (std::int64_t m = 0; m < test.setup.rows; ++m) {
        const std::vector<double> x = test.row(m);
        for (std::int64_t n = 0; n < test.setup.outputs; ++n) {
            const Sum gate = sum_of(x, test.gate, n, test.setup.bias ? test.gate_bias[n] : 0.0);
            const Sum up = sum_of(x, test.up, n, test.setup.bias ? test.up_bias[n] : 0.0);
            const double opened = reference_activation(test.setup.activation, gate.value);
            const double expected = opened * up.value, steep = 1.13 * gate.error;
            const double allowed = steep * (std::abs(up.value) + up.error) + std::abs(opened) * up.error +
                                   (2e-6 + rounding(activation_type())) * std::abs(expected);
            REQUIRE(std::abs(test.out.at(m, n) - expected) <= allowed);
        }
    }
}

void check_gated(const GatedCase& c, Random& random) {
    const Gated test(c, random);
    backend().gated_linear(test.args());
    check_out(test);
    if (!c.norm) return;
    check_close(test.normed, 1e-5,
                [&](std::int64_t m, std::int64_t col) { return test.row(m)[static_cast<std::size_t>(col)]; });
}

}  // namespace

OP_TEST(gated_linear_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 17; ++rows) {
        for (const bool norm : {false, true}) {
            GatedCase c{.rows = rows, .cols = 144};
            if (!norm) c.norm.reset();
            check_gated(c, random);
        }
    }
}

OP_TEST(gated_linear_of_every_weight_type_and_size) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t least : {1, 33, 80, 512, 1040}) {
            const std::int64_t cols = whole_columns(dtype, least);
            for (const std::int64_t outputs : {1, 2, 3, 130}) {
                check_gated({.gate = dtype, .up = dtype, .rows = 2, .cols = cols, .outputs = outputs}, random);
            }
        }
        const std::int64_t wide = whole_columns(dtype, 1072);
        for (const std::int64_t rows : {1, 3, 5, 16}) {
            check_gated({.gate = dtype, .up = dtype, .rows = rows, .cols = wide, .norm = NormKind::kLayerNorm}, random);
        }
    }
}

// Several turns of a block, whose warps share outputs or have their own.
OP_TEST(gated_linear_of_many_outputs) {
    Random random(3);
    for (const DType dtype : kWeightTypes) {
        const std::int64_t wide = whole_columns(dtype, 1040);
        check_gated({.gate = dtype, .up = dtype, .rows = 2, .cols = 32, .outputs = 5003}, random);
        check_gated({.gate = dtype, .up = dtype, .rows = 1, .cols = wide, .outputs = 403}, random);
    }
}

// More columns than shared memory has room for: x lies there in stretches, and a norm is a step of its own.
OP_TEST(gated_linear_of_very_wide_rows) {
    Random random(4);
    check_gated({.rows = 13, .cols = 2560, .outputs = 9}, random);
    check_gated({.rows = 13, .cols = 2560, .outputs = 9, .norm = {}}, random);
}

OP_TEST(gated_linear_with_every_activation_and_without_biases) {
    Random random(5);
    for (const Activation activation : kActivations) {
        for (const bool bias : {false, true}) {
            check_gated({.gate = DType::kInt8, .up = DType::kInt8, .activation = activation, .bias = bias}, random);
        }
    }
}

OP_TEST(gated_linear_of_weights_of_two_types) {
    Random random(6);
    check_gated({.gate = DType::kInt8, .up = DType::kFloat16}, random);
    check_gated({.gate = DType::kFloat32, .up = DType::kBFloat16, .norm = {}}, random);
}

OP_TEST(gated_linear_may_write_where_a_product_would) {
    Random random(7);
    const Gated test({}, random);
    for (const bool gate : {false, true}) {
        GatedLinearArgs args = test.args();
        (gate ? args.gate : args.up).out = test.out.view();
        backend().gated_linear(args);
        check_out(test);
    }
}

OP_TEST(gated_linear_of_two_inputs) {
    Random random(8);
    const Gated test({.norm = {}}, random), other({.norm = {}}, random);
    GatedLinearArgs args = test.args();
    args.up.x = other.x.view();
    backend().gated_linear(args);
    const double tolerance = 1e-5 + 64 * rounding(activation_type());
    check_close(test.out, tolerance, [&](std::int64_t m, std::int64_t n) {
        const double gate = sum_of(test.row(m), test.gate, n, test.gate_bias[n]).value;
        return gate / (1 + std::exp(-gate)) * sum_of(other.row(m), test.up, n, test.up_bias[n]).value;
    });
}

// What products have for themselves is not lost.
OP_TEST(gated_linear_keeps_the_products_own_activation_and_residual) {
    Random random(9);
    for (const bool has_residual : {false, true}) {
        const Gated test({.norm = {}}, random);
        const TestMatrix residual(test.setup.rows, test.setup.outputs, random);
        GatedLinearArgs args = test.args();
        if (has_residual) args.gate.residual = residual.view();
        if (!has_residual) args.up.activation = Activation::kRelu;
        backend().gated_linear(args);
        const double tolerance = 1e-5 + 64 * rounding(activation_type());
        check_close(test.out, tolerance, [&](std::int64_t m, std::int64_t n) {
            const double own = sum_of(test.row(m), test.gate, n, test.gate_bias[n]).value;
            const double gate = own + (has_residual ? residual.at(m, n) : 0.0f);
            const double up = sum_of(test.row(m), test.up, n, test.up_bias[n]).value;
            return gate / (1 + std::exp(-gate)) * (has_residual ? up : std::max(0.0, up));
        });
    }
}

OP_TEST(gated_linear_of_a_row_is_the_same_bits_in_any_batch_of_few_rows) {
    Random random(10);
    const Gated all({.rows = 16, .cols = 528, .outputs = 70}, random);
    backend().gated_linear(all.args());
    for (const std::int64_t m : {0, 5, 15}) {
        const TestMatrix out(1, 70);
        GatedLinearArgs args = all.args();
        args.norm->x = args.norm->x.slice(m, 1);
        args.norm->out = args.norm->out.slice(m, 1);
        for (LinearArgs* product : {&args.gate, &args.up}) {
            product->x = product->x.slice(m, 1);
            product->out = product->out.slice(m, 1);
        }
        args.out = out.view();
        backend().gated_linear(args);
        CHECK(same_bits(out, 0, all.out, m));
    }
}

OP_TEST(gated_linear_refuses_shapes_that_do_not_fit) {
    Random random(11);
    const Gated test({}, random);
    const TestMatrix narrow(3, 36);
    GatedLinearArgs args = test.args();
    args.out = narrow.view();
    CHECK_ERROR(backend().gated_linear(args), ErrorCode::kInternal, "gated: ");
    args = test.args();
    args.norm->weight.size = 16;
    CHECK_ERROR(backend().gated_linear(args), ErrorCode::kInternal, "norm: weight is not");
}
