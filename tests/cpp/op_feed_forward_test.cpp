// A feed-forward block, which a device may run as one: norm, in (with a gate or without), activation, out.
#include <optional>

#include "op_testing.h"

namespace {

using namespace op_testing;

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

// A number, and what rounding on the way to it may have changed.
struct Bounded {
    double value, error;
};

std::vector<Bounded> input_of(const Block& test, std::int64_t m) {
    const BlockCase& c = test.setup;
    const bool layer_norm = c.norm == NormKind::kLayerNorm;
    const auto cols = static_cast<double>(c.cols);
    double mean = 0, squares = 0;
    for (std::int64_t k = 0; k < c.cols && layer_norm; ++k) mean += test.x.at(m, k) / cols;
    for (std::int64_t k = 0; k < c.cols; ++k) squares += std::pow(test.x.at(m, k) - mean, 2) / cols;
    std::vector<Bounded> values;
    for (std::int64_t k = 0; k < c.cols; ++k) {
        double value = test.x.at(m, k);
        if (c.norm) value = (value - mean) / std::sqrt(squares + 1e-5f) * test.norm_weight[k];
        if (layer_norm) value += test.norm_bias[k];
        values.push_back({value, c.norm ? 2e-6 + rounding(activation_type()) * std::abs(value) : 0.0});
    }
    return values;
}

Bounded sum_of(const std::vector<Bounded>& x, const TestWeight& weight, std::int64_t n, double bias) {
    Bounded sum{bias, 1e-6 * (1 + std::abs(bias))};
    std::vector<double> most;
    for (std::size_t k = 0; k < x.size(); ++k) {
        const double factor = weight.at(n, static_cast<std::int64_t>(k));
        sum.value += x[k].value * factor;
        sum.error += std::abs(factor) * (x[k].error + 1e-6 * std::abs(x[k].value));
        most.push_back(std::abs(x[k].value) + x[k].error);
    }
    sum.error += input_error(most, weight, n);
    return sum;
}

// Rounded to the activations' type, as every op's output is.
Bounded stored(Bounded number) {
    number.error += rounding(activation_type()) * (std::abs(number.value) + number.error);
    return number;
}

// No activation is steeper than 1.13.
Bounded activated(Activation activation, const Bounded& sum) {
    return {reference_activation(activation, sum.value), 1.13 * sum.error};
}

Bounded hidden_of(const Block& test, const std::vector<Bounded>& x, std::int64_t n) {
    const Bounded in = sum_of(x, test.in, n, test.in_bias[n]);
    if (!test.setup.gated) return stored(activated(test.setup.activation, in));
    // One by one, gate and in are rounded on their way.
    const Bounded up = stored(in), gate = stored(sum_of(x, test.gate, n, test.gate_bias[n]));
    const Bounded open = activated(test.setup.activation, gate);
    return stored(
        {open.value * up.value, open.error * (std::abs(up.value) + up.error) + std::abs(open.value) * up.error});
}

// Read before the op runs, which may write over x.
std::vector<std::vector<Bounded>> expected_of(const Block& test) {
    std::vector<std::vector<Bounded>> all;
    for (std::int64_t m = 0; m < test.setup.rows; ++m) {
        const std::vector<Bounded> x = input_of(test, m);
        std::vector<Bounded> hidden, row;
        for (std::int64_t n = 0; n < test.setup.inner; ++n) hidden.push_back(hidden_of(test, x, n));
        for (std::int64_t n = 0; n < test.setup.outputs; ++n) {
            Bounded sum = sum_of(hidden, test.last, n, test.last_bias[n]);
            if (test.setup.residual && test.setup.place == Place::kOwn) sum.value += test.residual.at(m, n);
            if (test.setup.residual && test.setup.place == Place::kStream) sum.value += test.x.at(m, n);
            if (test.setup.residual && test.setup.place == Place::kStreamOfNormed) {
                sum.value += x[static_cast<std::size_t>(n)].value;
                sum.error += x[static_cast<std::size_t>(n)].error;
            }
            row.push_back({sum.value, sum.error + 1e-6 * std::abs(sum.value)});
        }
        all.push_back(row);
    }
    return all;
}

void check_result(const Block& test, const std::vector<std::vector<Bounded>>& expected) {
    CHECK(test.result().is_written_exactly());
    for (std::size_t m = 0; m < expected.size(); ++m) {
        for (std::size_t n = 0; n < expected[m].size(); ++n) {
            const float found = test.result().at(static_cast<std::int64_t>(m), static_cast<std::int64_t>(n));
            const double rounded = rounding(test.result().dtype()) * std::abs(expected[m][n].value);
            REQUIRE(std::abs(found - expected[m][n].value) <= expected[m][n].error + rounded);
        }
    }
}

void check_block(const BlockCase& c, Random& random) {
    const Block test(c, random);
    const auto expected = expected_of(test);
    backend().feed_forward(test.args());
    check_result(test, expected);
    if (!c.norm) return;
    CHECK(test.normed.is_written_exactly());
}

}  // namespace

OP_TEST(feed_forward_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 17; ++rows) {
        for (const bool gated : {false, true}) check_block({.rows = rows, .gated = gated}, random);
    }
}

OP_TEST(feed_forward_of_every_weight_type_and_size) {
    Random random(2);
    for (const DType type : kWeightTypes) {
        for (const bool gated : {false, true}) {
            // 33: rows that are not whole words; 1,040: several steps of a warp.
            for (const std::int64_t cols : {16, 33, 528}) {
                check_block({.type = type,
                             .rows = 2,
                             .cols = whole_columns(type, cols),
                             .inner = whole_columns(type, 48),
                             .outputs = 3,
                             .gated = gated},
                            random);
            }
            check_block({.type = type,
                         .rows = 1,
                         .cols = 32,
                         .inner = whole_columns(type, 1040),
                         .outputs = 70,
                         .gated = gated},
                        random);
            check_block(
                {.type = type, .rows = 5, .cols = 64, .inner = whole_columns(type, 33), .outputs = 1, .gated = gated},
                random);
        }
    }
}

OP_TEST(feed_forward_with_every_norm_and_activation) {
    Random random(3);
    for (const Activation activation : kActivations) {
        check_block({.norm = {}, .activation = activation}, random);
        check_block({.gated = true, .norm = NormKind::kRmsNorm, .activation = activation}, random);
    }
    check_block({.norm = {}, .residual = false}, random);
}

// More outputs than a launch has blocks: in the first half and in the second.
OP_TEST(feed_forward_of_many_outputs) {
    Random random(4);
    check_block({.rows = 1, .cols = 32, .inner = 2096, .outputs = 16}, random);
    check_block({.rows = 1, .cols = 32, .inner = 48, .outputs = 2003, .gated = true}, random);
}

// More columns than shared memory has room for, of x (the norm is a step of its own) and of what is between.
OP_TEST(feed_forward_of_very_wide_rows) {
    Random random(5);
    check_block({.rows = 13, .cols = 2560, .inner = 16, .outputs = 9}, random);
    check_block({.rows = 13, .cols = 16, .inner = 2560, .outputs = 9, .gated = true}, random);
}

OP_TEST(feed_forward_may_write_over_what_it_reads) {
    Random random(6);
    for (const Place place : {Place::kStream, Place::kStreamOfNormed}) {
        for (const std::int64_t rows : {1, 4, 16}) {
            for (const bool gated : {false, true}) {
                check_block({.rows = rows, .outputs = 64, .gated = gated, .place = place}, random);
            }
        }
    }
    check_block({.outputs = 64, .norm = {}, .place = Place::kStream}, random);
    check_block({.outputs = 64, .norm = {}, .residual = false, .place = Place::kStream}, random);
}

// One launch computes what the launches of the ops do, in the same order.
OP_TEST(feed_forward_gives_the_bits_of_its_ops) {
    Random random(7);
    for (const bool gated : {false, true}) {
        for (const std::int64_t rows : {1, 3, 16}) {
            const Block test({.rows = rows, .cols = 144, .inner = 528, .outputs = 70, .gated = gated}, random);
            backend().feed_forward(test.args());
            const TestMatrix together(rows, 70, 5, DType::kFloat32);
            together.copy_from(test.out);
            backend().Backend::feed_forward(test.args());
            CHECK(same_bits(together, test.out));
        }
    }
}

// The inner state is rounded where it is made, or (one row, a gate, a width that is no whole number of panels) by the
// second product: to the same integers.
CPU_TEST(feed_forward_of_int8_weights_gives_the_bits_of_its_ops, "a GPU's is the exact product") {
    Random random(10);
    for (const std::int64_t inner : {64, 320, 328, 3072}) {
        std::vector<std::int64_t> all_rows{1, 2, 5, 6, 7, 64};
        // Rows are computed by 512: one is left, or many.
        if (inner == 320) all_rows.insert(all_rows.end(), {512, 513, 1025, 1100});
        for (const std::int64_t rows : all_rows) {
            for (const bool gated : {false, true}) {
                const Block test({.type = DType::kInt8,
                                  .rows = rows,
                                  .cols = 80,
                                  .inner = inner,
                                  .outputs = 38,
                                  .gated = gated,
                                  .activation = rows % 2 == 0 ? Activation::kGelu : Activation::kRelu},
                                 random);
                backend().feed_forward(test.args());
                const TestMatrix together(rows, 38, 5, DType::kFloat32);
                together.copy_from(test.out);
                backend().Backend::feed_forward(test.args());
                CHECK(test.out.is_written_exactly());
                CHECK(same_bits(together, test.out));
            }
        }
    }
}

CPU_TEST(feed_forward_of_int8_weights_over_what_it_reads, "a GPU's is the exact product") {
    Random random(11);
    for (const std::int64_t rows : {3, 513, 600}) {
        const BlockCase setup{.type = DType::kInt8,
                              .rows = rows,
                              .cols = 64,
                              .inner = 128,
                              .outputs = 64,
                              .norm = {},
                              .place = Place::kStream};
        const Block test(setup, random);
        const TestMatrix before(rows, 64, 3, DType::kFloat32), together(rows, 64, 3, DType::kFloat32);
        before.copy_from(test.x);
        backend().feed_forward(test.args());
        together.copy_from(test.x);
        test.x.copy_from(before);
        backend().Backend::feed_forward(test.args());
        CHECK(!same_bits(before, test.x));
        CHECK(same_bits(together, test.x));
    }
}

// NaN and Inf of one row stay in that row.
CPU_TEST(feed_forward_of_int8_weights_with_rows_that_cannot_be_scaled, "a GPU's is the exact product") {
    Random random(12);
    Block test({.type = DType::kInt8, .rows = 6, .cols = 64, .inner = 64, .outputs = 7, .norm = {}, .residual = false},
               random);
    backend().feed_forward(test.args());
    const TestMatrix before(6, 7, 5, DType::kFloat32);
    before.copy_from(test.out);
    test.x.set(1, 63, kNan);
    test.x.set(2, 0, kInf);
    backend().feed_forward(test.args());
    for (std::int64_t n = 0; n < 7; ++n) {
        CHECK(std::isnan(test.out.at(1, n)) && std::isnan(test.out.at(2, n)));
        for (const std::int64_t m : {0, 3, 4, 5}) CHECK(same_bits(test.out.at(m, n), before.at(m, n)));
    }
}

// An inner state of zeros, or nearly, is no division by zero.
CPU_TEST(feed_forward_of_int8_weights_whose_inner_state_is_nothing, "a GPU's is the exact product") {
    Random random(14);
    for (const float bias : {-1e3f, 1e-38f}) {
        const Block test({.type = DType::kInt8,
                          .rows = 7,
                          .cols = 64,
                          .inner = 64,
                          .outputs = 9,
                          .norm = {},
                          .activation = Activation::kRelu,
                          .residual = false},
                         random);
        for (std::int64_t m = 0; m < 7; ++m) {
            for (std::int64_t k = 0; k < 64; ++k) test.x.set(m, k, 0.0f);
        }
        FeedForwardArgs args = test.args();
        const std::vector<float> biases(64, bias);
        args.in.bias.data = biases.data();
        backend().feed_forward(args);
        for (std::int64_t m = 0; m < 7; ++m) {
            for (std::int64_t n = 0; n < 9; ++n) CHECK(is_close(test.out.at(m, n), test.last_bias[n], 1e-30));
        }
    }
}

// Nothing to compute is nothing done.
CPU_TEST(feed_forward_of_int8_weights_without_rows_or_outputs, "of the CPU's integer products") {
    Random random(15);
    for (const std::int64_t rows : {0, 3}) {
        const Block test({.type = DType::kInt8,
                          .rows = rows,
                          .inner = 64,
                          .outputs = rows == 0 ? 5 : 0,
                          .norm = {},
                          .residual = false},
                         random);
        backend().feed_forward(test.args());
        CHECK(test.out.is_written_exactly());
    }
}

CPU_TEST(feed_forward_of_int8_weights_refuses_shapes_that_do_not_fit, "a GPU's is the exact product") {
    Random random(13);
    const Block test({.type = DType::kInt8, .inner = 128}, random);
    FeedForwardArgs args = test.args();
    args.out.weight.cols = 64;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "linear: ");
    args = test.args();
    args.in.weight.rows = 64;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "linear: ");
    args = test.args();
    args.out.x.rows = 2;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "linear: ");
}

OP_TEST(feed_forward_again_and_again) {
    Random random(8);
    const Block test({}, random), other({.rows = 1, .gated = true}, random);
    const auto expected = expected_of(test), expected_of_other = expected_of(other);
    for (int turn = 0; turn < 6; ++turn) {
        backend().repeat(1, [&] { backend().feed_forward(test.args()); });
        if (turn % 2 == 0) backend().feed_forward(test.args());
        check_result(test, expected);
        backend().repeat(2, [&] { backend().feed_forward(other.args()); });
        check_result(other, expected_of_other);
    }
    backend().forget();
}

OP_TEST(feed_forward_refuses_shapes_that_do_not_fit) {
    Random random(9);
    const Block test({}, random);
    FeedForwardArgs args = test.args();
    args.out.weight.cols = 95;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "linear: ");
    args = test.args();
    args.in.weight.rows = 95;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "linear: ");
    args = test.args();
    args.norm->weight.size = 16;
    CHECK_ERROR(backend().feed_forward(args), ErrorCode::kInternal, "norm: weight is not");
}
