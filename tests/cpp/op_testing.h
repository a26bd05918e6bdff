// What the op tests share: memory and backends under test, comparison with a float64 twin, plain float64 arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <sstream>
#include <vector>

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

// Where W is int8 or int4 a CPU rounds x to int8, so many columns with one scale (linear.h).
constexpr std::int64_t kInputGroup = 32;
constexpr DType kRoundedTypes[] = {DType::kInt8, DType::kInt4};
inline bool rounds_input(const TestWeight& weight) {
    const DType dtype = weight.view().dtype;
    return (dtype == DType::kInt8 || dtype == DType::kInt4) && !on_cuda();
}

// The largest |x[i]| of the group that column k is in, x_at(i) for i < cols.
template <typename At>
auto largest_of_group(At x_at, std::int64_t cols, std::int64_t k) {
    auto most = std::abs(x_at(k));
    const std::int64_t first = k / kInputGroup * kInputGroup;
    for (std::int64_t i = first; i < std::min(cols, first + kInputGroup); ++i) most = std::max(most, std::abs(x_at(i)));
    return most;
}

// What a product with this weight multiplies instead of row m of x: in float64, but for the rounding, which is defined
// in float32.
inline std::vector<double> inputs_of_product(const TestMatrix& x, const TestWeight& weight, std::int64_t m) {
    std::vector<double> inputs;
    for (std::int64_t k = 0; k < x.cols(); ++k) inputs.push_back(x.at(m, k));
    if (!rounds_input(weight)) return inputs;
    for (std::int64_t first = 0; first < x.cols(); first += kInputGroup) {
        const float most = largest_of_group([&](std::int64_t i) { return x.at(m, i); }, x.cols(), first);
        const float inverse = most > 1e-36f ? 127.0f / most : 0.0f;
        for (std::int64_t k = first; k < std::min(x.cols(), first + kInputGroup); ++k) {
            inputs[static_cast<std::size_t>(k)] =
                std::nearbyint(x.at(m, k) * inverse) * (static_cast<double>(most) / 127);
        }
    }
    return inputs;
}

// What that rounding may change of x . weight[n]: half a step of every column. For x that is itself computed, where
// float32 may round to the neighbour of what float64 rounds to.
inline double input_error(const std::vector<double>& x, const TestWeight& weight, std::int64_t n) {
    if (!rounds_input(weight)) return 0;
    double error = 0;
    const auto cols = static_cast<std::int64_t>(x.size());
    const auto x_at = [&](std::int64_t i) { return x[static_cast<std::size_t>(i)]; };
    for (std::int64_t first = 0; first < cols; first += kInputGroup) {
        const double half_a_step = largest_of_group(x_at, cols, first) / 253;
        for (std::int64_t k = first; k < std::min(cols, first + kInputGroup); ++k) {
            error += half_a_step * std::abs(weight.at(n, k));
        }
    }
    return error;
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
