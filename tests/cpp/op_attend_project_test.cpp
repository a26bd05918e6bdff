// Attention over a cache and the output projection behind it, which a device may run as one.
#include "op_cached_problem.h"

namespace {

using namespace op_testing;

struct AttendCase {
    CachedCase attention;
    DType weights = activation_type();
    std::int64_t outputs = 37;
    bool residual = true, bias = true;
};

struct Attend {
    AttendCase setup;
    CachedProblem problem;
    TestWeight weight;
    TestVector bias;
    TestMatrix residual, out;

    Attend(const AttendCase& c, Random& random)
        : setup(c),
          problem(c.attention, random),
          weight(c.weights, c.outputs, problem.q.cols(), random),
          bias(random.floats(c.outputs)),
          residual(problem.rows(), c.outputs, random, 3, DType::kFloat32),
          out(problem.rows(), c.outputs, 5, DType::kFloat32) {}

    AttendProjectArgs args(bool through_table) const {
        AttendProjectArgs args{.attention = problem.args(through_table),
                               .out = {problem.out.view(), weight.view(), {}, {}, out.view()}};
        if (setup.bias) args.out.bias = bias.view();
        if (setup.residual) args.out.residual = residual.view();
        return args;
    }
};

// A head's error is that of its own test, and counts by what its column weighs.
void check_out(const Attend& test, const TestMatrix& out, bool through_table) {
    CHECK(out.is_written_exactly());
    const double head_error = arithmetic(3e-6) + rounding(activation_type());
    for (std::int64_t m = 0; m < out.rows(); ++m) {
        std::vector<double> heads;
        for (std::int64_t c = 0; c < test.weight.view().cols; ++c) {
            heads.push_back(test.problem.expected(through_table, m, c));
        }
        for (std::int64_t n = 0; n < out.cols(); ++n) {
            double expected = test.setup.bias ? test.bias[n] : 0.0, error = 2e-6 * (1 + std::abs(expected));
            if (test.setup.residual) expected += test.residual.at(m, n);
            for (std::size_t c = 0; c < heads.size(); ++c) {
                const double factor = test.weight.at(n, static_cast<std::int64_t>(c));
                expected += heads[c] * factor;
                error += std::abs(factor) * (head_error * (1 + std::abs(heads[c])) + 1e-6 * std::abs(heads[c]));
            }
            error += input_error(heads, test.weight, n);
            REQUIRE(std::abs(out.at(m, n) - expected) <= error);
        }
    }
}

void check_attend(const AttendCase& c, Random& random) {
    for (const bool through_table : {false, true}) {
        const Attend test(c, random);
        backend().attend_project(test.args(through_table));
        check_out(test, test.out, through_table);
    }
}

// Lengths of so many rows, the longest first.
std::vector<std::int32_t> lengths(std::int64_t rows, std::int32_t longest) {
    std::vector<std::int32_t> all;
    for (std::int64_t m = 0; m < rows; ++m)
        all.push_back(m == 0 ? longest : static_cast<std::int32_t>(m * 7 % longest));
    return all;
}

}  // namespace

OP_TEST(attend_project_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 17; ++rows) {
        check_attend({{{2, 2, 8}, 20, 8, lengths(rows, 20)}}, random);
    }
}

OP_TEST(attend_project_of_heads_of_every_form) {
    Random random(2);
    // The last ones are no whole packs.
    for (const Heads heads : {Heads{1, 1, 64}, Heads{8, 2, 16}, Heads{4, 2, 32}, Heads{6, 1, 8}, Heads{5, 1, 24},
                              Heads{4, 1, 128}, Heads{2, 1, 256}, Heads{4, 2, 20}, Heads{8, 2, 6}}) {
        check_attend({{heads, 40, 8}}, random);
    }
    check_attend({{{2, 2, 8}, 40, 3}}, random);  // rows that begin at any element
}

OP_TEST(attend_project_of_every_weight_type_and_size) {
    Random random(3);
    for (const DType weights : kWeightTypes) {
        for (const std::int64_t outputs : {1, 3, 130}) {
            check_attend({{{4, 2, 16}, 40, 8}, weights, outputs}, random);
        }
        check_attend({{{4, 2, 8}, 40, 8, lengths(13, 40)}, weights, 70}, random);
    }
}

// Keys that several blocks of a GPU share, down to shares and rows that have none; and more than one launch is for.
OP_TEST(attend_project_to_many_keys) {
    Random random(4);
    for (const std::int64_t capacity : {300, 2100}) {
        const auto longest = static_cast<std::int32_t>(capacity);
        check_attend({{{2, 1, 64}, capacity, 8, {longest, 5, 0}}}, random);
        check_attend({{{2, 2, 64}, capacity, 8, {longest - 1}}}, random);
        check_attend({{{1, 1, 8}, capacity, 8, {1}}}, random);
    }
}

OP_TEST(attend_project_without_bias_or_residual) {
    Random random(5);
    check_attend({.attention = {{2, 2, 16}, 40, 8}, .residual = false}, random);
    check_attend({.attention = {{2, 2, 16}, 40, 8}, .bias = false}, random);
}

OP_TEST(attend_project_adds_to_its_residual_in_place) {
    Random random(6);
    const Attend test({{{2, 2, 16}, 40, 8}}, random);
    const TestMatrix stream(test.out.rows(), test.out.cols(), 3, DType::kFloat32);
    stream.copy_from(test.residual);
    AttendProjectArgs args = test.args(true);
    args.out.out = args.out.residual = stream.view();
    backend().attend_project(args);
    check_out(test, stream, true);
}

OP_TEST(attend_project_without_a_capacity_reads_as_far_as_lengths_say) {
    Random random(7);
    const Attend test({{{2, 2, 16}, 40, 8}}, random);
    AttendProjectArgs args = test.args(false);
    args.attention.capacity = 0;
    backend().attend_project(args);
    check_out(test, test.out, false);
}

OP_TEST(attend_project_again_and_again) {
    Random random(8);
    const Attend test({{{2, 2, 16}, 40, 8}}, random), other({{{2, 1, 64}, 300, 8, {300, 9}}}, random);
    for (int turn = 0; turn < 6; ++turn) {
        for (const Attend* one : {&test, &other}) {
            backend().repeat(1 + (one == &other), [&] { backend().attend_project(one->args(true)); });
            if (turn % 2 == 0) backend().attend_project(one->args(true));
            check_out(*one, one->out, true);
        }
    }
    backend().forget();
}

OP_TEST(attend_project_refuses_shapes_that_do_not_fit) {
    Random random(9);
    const Attend test({{{2, 2, 16}, 40, 8}}, random);
    AttendProjectArgs args = test.args(true);
    args.attention.heads = 3;
    CHECK_ERROR(backend().attend_project(args), ErrorCode::kInternal, "cached_attention: ");
    args = test.args(true);
    args.out.weight.cols = 31;
    CHECK_ERROR(backend().attend_project(args), ErrorCode::kInternal, "linear: ");
}
