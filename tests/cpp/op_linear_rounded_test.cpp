// linear() with int8 and int4 weights, where a CPU rounds x to int8 too: integer products, each 32 columns of a row of
// x with a scale of their own.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "op_product.h"
#include "op_rounded_memory.h"

using namespace op_testing;

namespace {

float largest(const Product& product, std::int64_t m, std::int64_t k) {
    return largest_of_group([&](std::int64_t i) { return product.x.at(m, i); }, product.x.cols(), k);
}

// Sets weight[n, k] to an integer times its scale.
void set_level(const Product& product, std::int64_t n, std::int64_t k, int level) {
    const Weight weight = product.weight.view();
    auto* bytes = const_cast<std::uint8_t*>(static_cast<const std::uint8_t*>(weight.data));
    if (weight.dtype == DType::kInt8) {
        bytes[n * weight.cols + k] = static_cast<std::uint8_t>(level);
        return;
    }
    std::uint8_t& pair = bytes[n * weight.row_bytes() + k / 32 * 16 + k % 16];
    const int shift = k % 32 < 16 ? 0 : 4;
    pair = static_cast<std::uint8_t>((pair & ~(15 << shift)) | (level + 8) << shift);
}

}  // namespace

OP_TEST(rounded_linear_at_odd_sizes) {
    Random random(1);
    for (const DType dtype : kRoundedTypes) {
        for (const std::int64_t k : {1, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257, 768, 1056}) {
            for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 13, 14, 15, 29}) {
                if (on_cuda() && m > 3) continue;
                const Product product(dtype, {m, random.integer(1, 70), k}, random);
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

OP_TEST(rounded_linear_with_every_activation_with_and_without_bias_and_residual) {
    Random random(2);
    for (const DType dtype : kRoundedTypes) {
        for (const Activation activation : kActivations) {
            for (const int parts : {0, 1, 2, 3}) {
                Product product(dtype, {5, 39, 70}, random);
                product.activation = activation;
                product.has_bias = parts % 2 == 1;
                product.has_residual = parts / 2 == 1;
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

// More rows than are rounded at a time, more columns than a panel has.
OP_TEST(rounded_linear_with_many_rows) {
    Random random(3);
    for (const DType dtype : kRoundedTypes) {
        for (const Sizes sizes : {Sizes{530, 40, 33}, Sizes{70, 301, 48}, Sizes{3, 700, 3104}}) {
            const Product product(dtype, sizes, random);
            backend().linear(product.args());
            check_product(product);
        }
    }
}

// Long rows: of one row of x the next ones are not asked for ahead, and scales of int4 are made ready in stretches.
OP_TEST(rounded_linear_with_long_rows) {
    Random random(6);
    for (const DType dtype : kRoundedTypes) {
        for (const std::int64_t k : {8192, 16448, 32800}) {
            for (const std::int64_t m : {1, 3}) {
                const Product product(dtype, {m, 37, k}, random);
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

// One row, few and many take different ways.
CPU_TEST(rounded_linear_gives_a_row_the_same_bits_among_any_others, "a GPU's sums depend on the number of rows") {
    constexpr std::int64_t kRows = 8;
    Random random(11);
    for (const DType dtype : kRoundedTypes) {
        for (const std::int64_t k : {32, 96, 100, 160, 800, 4224, 16448}) {
            const std::int64_t n = k % 3 == 0 ? 32 : 45;  // whole tiles, whose last bytes are W's last, or not
            const Product product(dtype, {kRows, n, k}, random);
            backend().linear(product.args());
            for (std::int64_t rows = 1; rows < kRows; ++rows) {
                const TestMatrix apart(kRows, n, 2, DType::kFloat32);
                for (std::int64_t m = 0; m < kRows; m += rows) {
                    LinearArgs part = product.args();
                    const std::int64_t count = std::min(rows, kRows - m);
                    part.x = part.x.slice(m, count);
                    part.out = apart.view().slice(m, count);
                    part.residual = part.residual.slice(m, count);
                    backend().linear(part);
                }
                CHECK(same_bits(apart, product.out));
            }
        }
    }
}

// The largest products there are, all of one sign: nothing is cut off on the way.
CPU_TEST(rounded_linear_cuts_no_sum_off, "of the CPU's integer products") {
    Random random(4);
    for (const DType dtype : kRoundedTypes) {
        const int least = dtype == DType::kInt8 ? -128 : -8;
        for (const std::int64_t rows : {1, 7}) {
            for (const float sign : {1.0f, -1.0f}) {
                const Product product(dtype, {rows, 33, 3072}, random);
                for (std::int64_t k = 0; k < 3072; ++k) {
                    for (std::int64_t m = 0; m < rows; ++m) product.x.set(m, k, m % 2 == 0 ? sign : -sign);
                    for (std::int64_t n = 0; n < 33; ++n) {
                        set_level(product, n, k, n % 3 == 0 ? least : n % 3 == 1 ? -1 - least : 0);
                    }
                }
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

CPU_TEST(rounded_linear_is_within_half_a_step_of_the_exact_product, "a GPU's is the exact product") {
    Random random(5);
    for (const DType dtype : kRoundedTypes) {
        const Product product(dtype, {9, 50, 500}, random);
        backend().linear(product.args());
        for (std::int64_t m = 0; m < 9; ++m) {
            for (std::int64_t n = 0; n < 50; ++n) {
                double most = 1e-5;
                for (std::int64_t k = 0; k < product.x.cols(); ++k) {
                    most += largest(product, m, k) / 254.0 * std::abs(product.weight.at(n, k));
                }
                CHECK(std::abs(product.out.at(m, n) - product.exact(m, n)) <= most);
            }
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
    products.emplace_back(DType::kInt4, Sizes{5, 35, 64}, random);
    products.emplace_back(DType::kInt8, Sizes{5, 9, 64}, random);
    products[2].x.copy_from(products[0].x);
    products[6].x.copy_from(products[5].x);
    std::vector<LinearArgs> args;
    for (const Product& product : products) args.push_back(product.args());
    args[2].x = args[0].x;
    args[6].x = args[5].x;
    for (const int threads : thread_counts()) {
        backend(threads).linear(args);
        for (const Product& product : products) check_product(product);
    }
}

OP_TEST(rounded_linear_may_write_over_its_residual) {
    Random random(8);
    for (const DType dtype : kRoundedTypes) {
        const Product product(dtype, {7, 150, 33}, random);
        backend().linear(product.args());
        LinearArgs in_place = product.args();
        in_place.out = product.residual.view();
        backend().linear(in_place);
        CHECK(same_bits(product.residual, product.out));
    }
}

// Nothing that is not a number becomes one, and rows of zeros or nearly so are no division by zero.
CPU_TEST(rounded_linear_of_rows_that_cannot_be_scaled, "a GPU's is the exact product") {
    Random random(9);
    for (const DType dtype : kRoundedTypes) {
        for (const std::int64_t columns : {40, 64, 100}) {
            Product product(dtype, {5, 20, columns}, random);
            const std::int64_t k = product.x.cols();
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
}

// A value that is far larger than the others costs the columns of its group alone.
CPU_TEST(rounded_linear_keeps_what_lies_beside_an_outlier, "a GPU's is the exact product") {
    Random random(10);
    for (const DType dtype : kRoundedTypes) {
        const Product product(dtype, {6, 40, 320}, random);
        for (std::int64_t m = 0; m < 6; ++m) product.x.set(m, 37, 1000.0f);
        for (std::int64_t n = 0; n < 40; ++n) set_level(product, n, 37, 0);
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
}

CPU_TEST(rounded_kernels_stay_within_their_memory_for_any_rows, "of the CPU's kernels") {
    Random random(1);
    for (const DType dtype : {DType::kInt8, DType::kInt4}) {
        for (const std::int64_t cols : {1, 3, 32, 33, 65, 96, 100, 160, 257, 800, 2080, 8288}) {
            if (dtype == DType::kInt4 && cols % 32 != 0) continue;
            for (const std::int64_t outputs : {1, 16, 32, 45}) {
                const RoundedProblem problem(dtype, outputs, cols, random);
                const std::vector<float> together = problem.outputs(0, RoundedProblem::kRows);
                CHECK(std::none_of(together.begin(), together.end(), [](float value) { return std::isnan(value); }));
                for (std::int64_t rows = 1; rows < RoundedProblem::kRows; ++rows) {
                    const std::vector<float> some = problem.outputs(1, rows);
                    CHECK(std::memcmp(some.data(), together.data() + outputs, some.size() * sizeof(float)) == 0);
                }
            }
        }
    }
}
