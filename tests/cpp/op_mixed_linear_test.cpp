// Mixing layers and the product that reads them, which a device may run as one.
#include "op_product.h"

using namespace op_testing;

namespace {

struct MixedCase {
    DType weight = DType::kBFloat16;
    std::int64_t rows = 3, layers = 5, cols = 48, outputs = 37, first = 0;
    bool global = false;
    DType states = DType::kFloat32;
    std::int64_t gap = 8;
};

void check_mixed_linear(MixedCase c, Random& random) {
    c.cols = whole_columns(c.weight, c.cols);
    Product product(c.weight, {c.rows, c.outputs, c.cols}, random);
    product.activation = Activation::kRelu;
    product.has_residual = c.rows % 2 == 0;
    const std::int64_t all = c.first + c.layers;
    std::vector<TestMatrix> states;
    std::vector<Matrix> views;
    for (std::int64_t l = 0; l < c.layers; ++l) states.emplace_back(c.rows, c.cols, random, c.gap, c.states);
    for (const TestMatrix& state : states) views.push_back(state.view());
    const TestMatrix logits(c.global ? 1 : c.rows, all, random, 3, DType::kFloat32);
    const TestMatrix fused(c.rows, c.cols, random, 8, DType::kFloat32);

    std::vector<double> x;
    for (std::int64_t m = 0; m < c.rows; ++m) {
        const std::int64_t row = c.global ? 0 : m;
        double total = 0;
        for (std::int64_t l = 0; l < all; ++l) total += std::exp(static_cast<double>(logits.at(row, l)));
        for (std::int64_t k = 0; k < c.cols; ++k) {
            x.push_back(c.first > 0 ? fused.at(m, k) : 0.0);
            for (std::int64_t l = 0; l < c.layers; ++l) {
                const double weight = std::exp(static_cast<double>(logits.at(row, c.first + l))) / total;
                x.back() += weight * states[static_cast<std::size_t>(l)].at(m, k);
            }
        }
    }
    LinearArgs args = product.args();
    args.x = fused.view();
    backend().mixed_linear({{views.data(), c.layers, logits.view(), fused.view(), {}, c.first}, args});
    if (rounds_input(product.weight)) {  // what was rounded is what the mixing gave
        check_close(fused, 1e-5,
                    [&](std::int64_t m, std::int64_t k) { return x[static_cast<std::size_t>(m * c.cols + k)]; });
        product.x.copy_from(fused);
        return check_product(product);
    }
    check_close(product.out, 1e-6 * std::sqrt(static_cast<double>(c.cols) + 16), [&](std::int64_t m, std::int64_t n) {
        double sum = product.bias[n];
        for (std::int64_t k = 0; k < c.cols; ++k) {
            sum += x[static_cast<std::size_t>(m * c.cols + k)] * product.weight.at(n, k);
        }
        return reference_activation(product.activation, sum) + (product.has_residual ? product.residual.at(m, n) : 0.0);
    });
}

}  // namespace

OP_TEST(mixed_linear_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 17; ++rows) {
        for (const bool global : {false, true}) check_mixed_linear({.rows = rows, .global = global}, random);
    }
}

OP_TEST(mixed_linear_of_every_type) {
    Random random(2);
    for (const DType weight : kWeightTypes) {
        for (const DType states : activation_types()) {
            for (const std::int64_t cols : {48, 80, 1072}) {
                check_mixed_linear({.weight = weight, .rows = 2, .cols = cols, .states = states}, random);
            }
        }
        // Rows that are no whole words; weights that are none; the last of the layers only; very many of them.
        check_mixed_linear({.weight = weight, .gap = 3}, random);
        check_mixed_linear({.weight = weight, .cols = 45}, random);
        check_mixed_linear({.weight = weight, .layers = 2, .first = 7}, random);
        check_mixed_linear({.weight = weight, .rows = 2, .layers = 49, .global = true}, random);
    }
}

// More columns than lie in shared memory at a time, and more states than a block should read.
OP_TEST(mixed_linear_of_wide_states) {
    Random random(3);
    check_mixed_linear({.rows = 9, .layers = 1, .cols = 3104, .outputs = 9}, random);
    check_mixed_linear({.rows = 5, .layers = 3, .cols = 3104, .outputs = 9}, random);
}

OP_TEST(mixed_linear_refuses_shapes_that_do_not_fit) {
    Random random(4);
    const Product product(DType::kFloat32, {2, 8, 16}, random);
    const TestMatrix state(2, 16, random), logits(2, 3, random), fused(2, 15);
    const std::vector<Matrix> states(3, state.view());
    const MixedLinearArgs args{{states.data(), 3, logits.view(), fused.view(), {}}, product.args()};
    CHECK_ERROR(backend().mixed_linear(args), ErrorCode::kInternal, "states are not all");
}
