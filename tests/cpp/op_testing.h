// What the op tests share: memory and backends under test, comparison with a float64 twin, plain float64 arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <sstream>

#include "op_memory.h"

namespace op_testing {

inline bool is_close(double found, double expected, double tolerance) {
    return std::abs(found - expected) <= tolerance * (1.0 + std::abs(expected));
}

// What float32 arithmetic may cost on the device under test, given what it costs on the CPU: a GPU sums in another
// order, and its functions may be 2 ulp off.
inline double arithmetic(double tolerance) { return on_cuda() ? std::max(tolerance, 1e-5) : tolerance; }

// `expected(r, c)` is the float64 twin, `tolerance` what float32 arithmetic may cost on the CPU; the rounding of the
// result to its type comes on top. Reports the first difference.
template <typename Expected>
void check_close(const TestMatrix& found, double tolerance, Expected expected) {
    const double allowed = arithmetic(tolerance) + rounding(found.dtype());
    CHECK(found.is_written_exactly());
    for (std::int64_t r = 0; r < found.rows(); ++r) {
        for (std::int64_t c = 0; c < found.cols(); ++c) {
            const double want = expected(r, c);
            if (is_close(found.at(r, c), want, allowed)) continue;
            std::ostringstream text;
            text << "[" << r << ", " << c << "]: " << found.at(r, c) << ", expected " << want;
            harness::report(__FILE__, __LINE__, text.str());
            return;
        }
    }
}

inline bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Rows of equal bits: row `ra` of a and row `rb` of b.
inline bool same_bits(const TestMatrix& a, std::int64_t ra, const TestMatrix& b, std::int64_t rb) {
    for (std::int64_t c = 0; c < a.cols(); ++c) {
        if (!same_bits(a.at(ra, c), b.at(rb, c))) return false;
    }
    return true;
}

inline bool same_bits(const TestMatrix& a, const TestMatrix& b) {
    for (std::int64_t r = 0; r < a.rows(); ++r) {
        if (!same_bits(a, r, b, r)) return false;
    }
    return true;
}

inline double reference_activation(Activation activation, double x) {
    switch (activation) {
        case Activation::kRelu:
            return x > 0 ? x : 0;
        case Activation::kGelu:
            return x / 2 * std::erfc(-x / std::sqrt(2.0));
        case Activation::kGeluTanh:
            return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
        case Activation::kSilu:
            return x / (1 + std::exp(-x));
        case Activation::kTanh:
            return std::tanh(x);
        default:
            return x;
    }
}

constexpr Activation kActivations[] = {Activation::kNone,     Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh, Activation::kSilu, Activation::kTanh};

}  // namespace op_testing
