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

    double input(std::int64_t m, std::int64_t k) const { return input_of_product(x, weight, m, k); }

    // In float64, but for the rounding, which is defined in float32.
    double expected(std::int64_t m, std::int64_t n) const {
        return result(m, n, [&](std::int64_t k) { return input(m, k); });
    }
    // Without the rounding.
    double exact(std::int64_t m, std::int64_t n) const {
        return result(m, n, [&](std::int64_t k) { return static_cast<double>(x.at(m, k)); });
    }

private:
    template <typename Input>
    double result(std::int64_t m, std::int64_t n, Input input_at) const {
        double sum = 0;
        for (std::int64_t k = 0; k < x.cols(); ++k) sum += input_at(k) * weight.at(n, k);
        if (has_bias) sum += bias[n];
        return reference_activation(activation, sum) + (has_residual ? residual.at(m, n) : 0.0f);
    }
};

inline void check_product(const Product& product) {
    const double tolerance = 1e-6 * std::sqrt(static_cast<double>(product.x.cols()) + 16);
    check_close(product.out, tolerance, [&](std::int64_t m, std::int64_t n) { return product.expected(m, n); });
}

}  // namespace op_testing
