// feed_forward() with int8 and int4 weights, where a CPU rounds the inner state for the second product where the first
// makes it.
#include <utility>
#include <vector>

#include "op_feed_forward.h"

using namespace op_testing;

namespace {

std::vector<std::pair<DType, std::int64_t>> cases(std::initializer_list<std::int64_t> all_rows) {
    std::vector<std::pair<DType, std::int64_t>> found;
    for (const std::int64_t rows : all_rows) {
        for (const DType type : kRoundedTypes) found.emplace_back(type, rows);
    }
    return found;
}

}  // namespace

// The inner state is rounded where it is made, or (one row, a gate, a width that is no whole number of panels) by the
// second product: to the same integers.
CPU_TEST(feed_forward_of_int8_or_int4_gives_the_bits_of_its_ops, "a GPU's is the exact product") {
    Random random(10);
    const auto check = [&](const BlockCase& setup) {
        const Block test(setup, random);
        backend().feed_forward(test.args());
        const TestMatrix together(setup.rows, 38, 5, DType::kFloat32);
        together.copy_from(test.out);
        backend().Backend::feed_forward(test.args());
        CHECK(test.out.is_written_exactly());
        CHECK(same_bits(together, test.out));
    };
    for (const std::int64_t inner : {64, 320, 328, 3072}) {
        std::vector<std::int64_t> all_rows{1, 2, 5, 6, 7, 64};
        // Rows are computed by 512: one is left, or many.
        if (inner == 320) all_rows.insert(all_rows.end(), {512, 513, 1025, 1100});
        for (const std::int64_t rows : all_rows) {
            for (const bool gated : {false, true}) {
                for (const DType type : kRoundedTypes) {
                    if (type == DType::kInt4 && inner == 328) continue;  // is no whole number of blocks
                    check({.type = type,
                           .rows = rows,
                           .cols = type == DType::kInt8 ? 80 : 96,
                           .inner = inner,
                           .outputs = 38,
                           .gated = gated,
                           .activation = rows % 2 == 0 ? Activation::kGelu : Activation::kRelu});
                }
            }
        }
    }
}

CPU_TEST(feed_forward_of_int8_or_int4_over_what_it_reads, "a GPU's is the exact product") {
    Random random(11);
    for (const auto& [type, rows] : cases({3, 513, 600})) {
        const BlockCase setup{
            .type = type, .rows = rows, .cols = 64, .inner = 128, .outputs = 64, .norm = {}, .place = Place::kStream};
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
CPU_TEST(feed_forward_of_int8_or_int4_with_rows_that_cannot_be_scaled, "a GPU's is the exact product") {
    Random random(12);
    for (const DType type : kRoundedTypes) {
        Block test({.type = type, .rows = 6, .cols = 64, .inner = 64, .outputs = 7, .norm = {}, .residual = false},
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
}

// An inner state of zeros, or nearly, is no division by zero.
CPU_TEST(feed_forward_of_int8_or_int4_whose_inner_state_is_nothing, "a GPU's is the exact product") {
    Random random(14);
    const auto check = [&](DType type, float bias) {
        const Block test({.type = type,
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
    };
    for (const DType type : kRoundedTypes) {
        for (const float bias : {-1e3f, 1e-38f}) check(type, bias);
    }
}

CPU_TEST(feed_forward_of_int8_and_int4_gives_the_bits_of_its_ops, "a GPU's is the exact product") {
    Random random(16);
    for (const DType first : kRoundedTypes) {
        const Block test({.type = first, .rows = 5, .cols = 96, .inner = 128, .outputs = 38}, random);
        const TestWeight last(first == DType::kInt8 ? DType::kInt4 : DType::kInt8, 38, 128, random);
        FeedForwardArgs args = test.args();
        args.out.weight = last.view();
        backend().feed_forward(args);
        const TestMatrix together(5, 38, 5, DType::kFloat32);
        together.copy_from(test.out);
        backend().Backend::feed_forward(args);
        CHECK(same_bits(together, test.out));
    }
}

// Nothing to compute is nothing done.
CPU_TEST(feed_forward_of_int8_or_int4_without_rows_or_outputs, "of the CPU's integer products") {
    Random random(15);
    for (const auto& [type, rows] : cases({0, 3})) {
        const Block test(
            {.type = type, .rows = rows, .inner = 64, .outputs = rows == 0 ? 5 : 0, .norm = {}, .residual = false},
            random);
        backend().feed_forward(test.args());
        CHECK(test.out.is_written_exactly());
    }
}

OP_TEST(feed_forward_of_int8_or_int4_refuses_shapes_that_do_not_fit) {
    Random random(13);
    for (const DType type : kRoundedTypes) {
        const Block test({.type = type, .inner = 128}, random);
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
}
