// linear() with int8 weights, where a CPU rounds x to int8 too: integer products, each 32 columns of a row of x with a
// scale of their own.
#include <cmath>

#include "op_product.h"

using namespace op_testing;

namespace {

float largest(const Product& product, std::int64_t m, std::int64_t k) {
    return largest_of_group([&](std::int64_t i) { return product.x.at(m, i); }, product.x.cols(), k);
}

}  // namespace

namespace {}  // namespace

OP_TEST(rounded_linear_at_odd_sizes) {
    Random random(1);
    for (const std::int64_t k : {1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257, 768}) {
        for (const std::int64_t m : {1, 2, 3, 5, 6, 7, 13, 14, 15, 29}) {
            if (on_cuda() && m > 3) continue;
            const Product product(DType::kInt8, {m, random.integer(1, 70), k}, random);
            backend().linear(product.args());
            check_product(product);
        }
    }
}

OP_TEST(rounded_linear_with_every_activation_with_and_without_bias_and_residual) {
    Random random(2);
    for (const Activation activation : kActivations) {
        for (const int parts : {0, 1, 2, 3}) {
            Product product(DType::kInt8, {5, 39, 70}, random);
            product.activation = activation;
            product.has_bias = parts % 2 == 1;
            product.has_residual = parts / 2 == 1;
            backend().linear(product.args());
            check_product(product);
        }
    }
}

// More rows than are rounded at a time, more columns than a panel has.
OP_TEST(rounded_linear_with_many_rows) {
    Random random(3);
    for (const Sizes sizes : {Sizes{530, 40, 33}, Sizes{70, 301, 48}, Sizes{3, 700, 3104}}) {
        const Product product(DType::kInt8, sizes, random);
        backend().linear(product.args());
        check_product(product);
    }
}

// The largest products there are, all of one sign: nothing is cut off on the way.
CPU_TEST(rounded_linear_cuts_no_sum_off, "of the CPU's integer products") {
    Random random(4);
    for (const float sign : {1.0f, -1.0f}) {
        const Product product(DType::kInt8, {7, 33, 3072}, random);
        for (std::int64_t m = 0; m < 7; ++m) {
            for (std::int64_t k = 0; k < 3072; ++k) product.x.set(m, k, m % 2 == 0 ? sign : -sign);
        }
        auto* levels = const_cast<std::int8_t*>(static_cast<const std::int8_t*>(product.weight.view().data));
        for (std::int64_t i = 0; i < 33 * 3072; ++i) levels[i] = i / 3072 % 3 == 0 ? -128 : i / 3072 % 3 == 1 ? 127 : 0;
        backend().linear(product.args());
        check_product(product);
    }
}

CPU_TEST(rounded_linear_is_within_half_a_step_of_the_exact_product, "a GPU's is the exact product") {
    Random random(5);
    const Product product(DType::kInt8, {9, 50, 500}, random);
    backend().linear(product.args());
    for (std::int64_t m = 0; m < 9; ++m) {
        for (std::int64_t n = 0; n < 50; ++n) {
            double most = 1e-5;
            for (std::int64_t k = 0; k < 500; ++k) {
                most += largest(product, m, k) / 254.0 * std::abs(product.weight.at(n, k));
            }
            CHECK(std::abs(product.out.at(m, n) - product.exact(m, n)) <= most);
        }
    }
}

// q, k and v of one x, another x, and products that are not rounded, in one call.
OP_TEST(rounded_linear_among_others) {
    Random random(7);
    std::vector<Product> products;
    products.emplace_back(DType::kInt8, Sizes{5, 33, 40}, random);
    products.emplace_back(DType::kBFloat16, Sizes{8, 120, 16}, random);
    products.emplace_back(DType::kInt8, Sizes{5, 70, 40}, random);
    products.emplace_back(DType::kInt8, Sizes{1, 7, 129}, random);
    products.emplace_back(DType::kInt8, Sizes{0, 7, 12}, random);
    products[2].x.copy_from(products[0].x);
    std::vector<LinearArgs> args;
    for (const Product& product : products) args.push_back(product.args());
    args[2].x = args[0].x;
    for (const int threads : thread_counts()) {
        backend(threads).linear(args);
        for (const Product& product : products) check_product(product);
    }
}

OP_TEST(rounded_linear_may_write_over_its_residual) {
    Random random(8);
    const Product product(DType::kInt8, {7, 150, 33}, random);
    backend().linear(product.args());
    LinearArgs in_place = product.args();
    in_place.out = product.residual.view();
    backend().linear(in_place);
    CHECK(same_bits(product.residual, product.out));
}

// Nothing that is not a number becomes one, and rows of zeros or nearly so are no division by zero.
CPU_TEST(rounded_linear_of_rows_that_cannot_be_scaled, "a GPU's is the exact product") {
    Random random(9);
    for (const std::int64_t k : {40, 64, 100}) {
        Product product(DType::kInt8, {5, 20, k}, random);
        product.has_residual = false;
        product.x.set(1, k - 1, kNan);
        product.x.set(2, 0, -kInf);
        for (std::int64_t c = 0; c < k; ++c) product.x.set(3, c, 0.0f);
        for (std::int64_t c = 0; c < k; ++c) product.x.set(4, c, 1e-40f);
        backend().linear(product.args());
        for (std::int64_t n = 0; n < 20; ++n) {
            CHECK(is_close(product.out.at(0, n), product.expected(0, n), 1e-5));
            CHECK(std::isnan(product.out.at(1, n)) && std::isnan(product.out.at(2, n)));
            CHECK(same_bits(product.out.at(3, n), product.bias[n]));
            CHECK(is_close(product.out.at(4, n), product.bias[n], 1e-30));
        }
    }
}

// A value that is far larger than the others costs the columns of its group alone.
CPU_TEST(rounded_linear_keeps_what_lies_beside_an_outlier, "a GPU's is the exact product") {
    Random random(10);
    const Product product(DType::kInt8, {6, 40, 320}, random);
    for (std::int64_t m = 0; m < 6; ++m) product.x.set(m, 37, 1000.0f);
    auto* levels = const_cast<std::int8_t*>(static_cast<const std::int8_t*>(product.weight.view().data));
    for (std::int64_t n = 0; n < 40; ++n) levels[n * 320 + 37] = 0;
    backend().linear(product.args());
    check_product(product);
    for (std::int64_t m = 0; m < 6; ++m) {
        for (std::int64_t n = 0; n < 40; ++n) {
            double most = 1e-4;
            for (std::int64_t k = 0; k < 320; ++k) {
                const double step = k / kInputGroup == 1 ? 1000.0 / 127 : largest(product, m, k) / 127;
                most += step / 2 * std::abs(product.weight.at(n, k));
            }
            CHECK(std::abs(product.out.at(m, n) - product.exact(m, n)) <= most);
        }
    }
}
