// Loops over vectors; exp, tanh and the activations on them, correct to about one unit in the last place of
// float32. The polynomials are least-maximum fits (iteratively reweighted least squares on Chebyshev nodes, in
// float64). NaN goes through; +Inf gives the limit.
#pragma once

#include <cstdint>

#include "ops/activation.h"

namespace lrengine {
namespace {

// visit(i) for every whole vector, then visit(i, left) for what is left of the row.
template <class V, class Visit>
void for_vectors(std::int64_t count, Visit visit) {
    std::int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) visit(i);
    if (i < count) visit(i, count - i);
}

// c[0] + c[1] x + c[2] x^2 + ...
template <class V, int N>
typename V::Float polynomial(typename V::Float x, const float (&c)[N]) {
    auto sum = V::set(c[N - 1]);
#pragma GCC unroll 16
    for (int i = N - 2; i >= 0; --i) sum = V::fma(sum, x, V::set(c[i]));
    return sum;
}

// exp(x) = 2^n e^r with |r| <= ln(2) / 2.
template <class V>
typename V::Float exp_of(typename V::Float x) {
    constexpr float kTail[] = {0.50000001f, 0.166665183f, 0.0416662042f, 0.00836895371f, 0.00139506003f};
    constexpr float kLog2E = 1.44269504f;
    constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;  // their sum is ln 2; n * high is exact
    constexpr float kLowest = -104.0f, kHighest = 89.0f;                 // behind these: 0 and Inf
    x = V::max(V::set(kLowest), V::min(V::set(kHighest), x));
    const auto n = V::round(V::mul(x, V::set(kLog2E)));
    const auto r = V::fma(n, V::set(-kLn2Low), V::fma(n, V::set(-kLn2High), x));
    const auto one_and_r = V::add(V::set(1.0f), r);
    return V::scale_by_power(V::fma(V::mul(r, r), polynomial<V>(r, kTail), one_and_r), n);
}

// x Phi(x) for the normal distribution's Phi: Phi(-t) = 2^-Q(t), t = |x|, and Phi(t) = 1 - Phi(-t). Q is fitted on
// [0, 6] to 2e-10 of x Phi(x), and only grows behind it: below -4 what is right is that absolute error, not every
// digit.
template <class V>
typename V::Float gelu_of(typename V::Float x) {
    constexpr float kLog[] = {1.0f,
                              1.15110433f,
                              0.459222198f,
                              0.0524267182f,
                              -0.00690555712f,
                              -5.47546369e-05f,
                              0.000319009589f,
                              -9.26594585e-05f,
                              1.47827677e-05f,
                              -1.33628293e-06f,
                              5.34433653e-08f};
    constexpr float kPower[] = {0.693147182f,   0.240226477f,  0.0555033237f,
                                0.00961843692f, 0.0013398875f, 0.00015353362f};
    constexpr float kHighest = 152.0f;  // behind it: 0
    const auto q = V::min(V::set(kHighest), polynomial<V>(V::abs(x), kLog));
    const auto n = V::round(V::sub(V::zero(), q));
    const auto r = V::sub(V::zero(), V::add(q, n));
    const auto one = V::set(1.0f);
    const auto lower = V::scale_by_power(V::fma(r, polynomial<V>(r, kPower), one), n);
    return V::mul(x, V::select(V::greater(x, V::zero()), V::sub(one, lower), lower));
}

// tanh(x) = x + x^3 P(x^2) near zero, 1 - 2 / (exp(2 |x|) + 1) elsewhere.
template <class V>
typename V::Float tanh_of(typename V::Float x) {
    constexpr float kNear[] = {-0.333333309f, 0.133332098f,    -0.0539472043f,
                               0.0217029671f, -0.00818267387f, 0.00214753687f};
    const auto size = V::abs(x);
    const auto square = V::mul(x, x);
    const auto near = V::fma(V::mul(x, square), polynomial<V>(square, kNear), x);
    const auto one = V::set(1.0f), two = V::set(2.0f);
    const auto far = V::sub(one, V::div(two, V::add(exp_of<V>(V::mul(two, size)), one)));
    return V::select(V::greater(size, V::set(0.625f)), V::copy_sign(far, x), near);
}

template <class V>
typename V::Float activate(Activation activation, typename V::Float x) {
    const auto one = V::set(1.0f);
    switch (activation) {
        case Activation::kNone:
            return x;
        case Activation::kRelu:
            return V::max(V::zero(), x);  // NaN stays
        case Activation::kGelu:
            return gelu_of<V>(x);
        case Activation::kGeluTanh: {
            const auto cube = V::mul(V::mul(x, x), x);
            // (1 + tanh u) / 2 = 1 / (1 + exp(-2 u))
            const auto inner = V::mul(V::set(-1.59576912f), V::fma(V::set(0.044715f), cube, x));
            return V::div(x, V::add(one, exp_of<V>(inner)));
        }
        case Activation::kSilu:
            return V::div(x, V::add(one, exp_of<V>(V::sub(V::zero(), x))));
        case Activation::kTanh:
            return tanh_of<V>(x);
    }
    return x;
}

}  // namespace
}  // namespace lrengine
