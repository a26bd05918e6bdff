// A call of linear() with everything that it can have, on random numbers, and its float64 twin.
#pragma once

#include "op_testing.h"

namespace op_testing {

struct Sizes {
    std::int64_t m, n, k;
};

// Everything that a call can have, on random numbers.
struct Product {
    TestMatrix x;
    TestWeight weight;
    TestVector bias;
    TestMatrix residual;
    TestMatrix out;
    Activation activation = Activation::kNone;
    bool has_bias = true, has_residual = true;

    // Of an int4 weight K is rounded up to whole blocks.
    Product(DType dtype, Sizes s, Random& random, std::int64_t gap = 3)
        : x(s.m, whole_columns(dtype, s.k), random, gap),
          weight(dtype, s.n, x.cols(), random),
          bias(random.floats(s.n)),
          residual(s.m, s.n, random, gap == 3 ? 5 : gap),
          out(s.m, s.n, gap == 3 ? 1 : gap) {}

    LinearArgs args() const {
        LinearArgs args{x.view(), weight.view(), {}, {}, out.view(), activation};
        if (has_bias) args.bias = bias.view();
        if (has_residual) args.residual = residual.view();
        return args;
    }

    std::vector<double> inputs(std::int64_t m) const { return inputs_of_product(x, weight, m); }
    // Of what the product multiplies, and of x itself.
    double expected(std::int64_t m, std::int64_t n) const { return result(weight, m, n, inputs(m)); }
    double exact(std::int64_t m, std::int64_t n) const {
        std::vector<double> row;
        for (std::int64_t k = 0; k < x.cols(); ++k) row.push_back(x.at(m, k));
        return result(weight, m, n, row);
    }

    double result(const TestWeight& other, std::int64_t m, std::int64_t n, const std::vector<double>& row) const {
        double sum = 0;
        for (std::int64_t k = 0; k < x.cols(); ++k) sum += row[static_cast<std::size_t>(k)] * other.at(n, k);
        if (has_bias) sum += bias[n];
        return reference_activation(activation, sum) + (has_residual ? residual.at(m, n) : 0.0f);
    }
};

// The product as if it had read `weight`.
inline void check_product(const Product& product, const TestWeight& weight) {
    const double tolerance = 1e-6 * std::sqrt(static_cast<double>(product.x.cols()) + 16);
    std::int64_t row = -1;
    std::vector<double> inputs;
    check_close(product.out, tolerance, [&](std::int64_t m, std::int64_t n) {
        if (m != row) inputs = product.inputs(row = m);
        return product.result(weight, m, n, inputs);
    });
}

inline void check_product(const Product& product) { check_product(product, product.weight); }

}  // namespace op_testing
