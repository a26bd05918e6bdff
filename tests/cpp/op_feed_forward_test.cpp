// A feed-forward block, which a device may run as one: norm, in (with a gate or without), activation, out.
#include "op_feed_forward.h"

namespace {

using namespace op_testing;

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
