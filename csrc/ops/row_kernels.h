// Kernels on one row of floats: sums, norms, softmax, element-wise functions, searches.
#pragma once

#include <cstdint>

#include "ops/cpu_kernels.h"
#include "ops/dot_kernels.h"
#include "ops/math_kernels.h"

namespace lrengine {
namespace {

constexpr float kNegativeInfinity = -__builtin_inff();

// The first `count` < width numbers, then `fill`.
template <class V>
typename V::Float load_filled(const float* p, std::int64_t count, float fill) {
    float padded[V::kWidth];
    for (int i = 0; i < V::kWidth; ++i) padded[i] = i < count ? p[i] : fill;
    return V::load(padded);
}

template <class V>
float sum_lanes(typename V::Float v) {
    float sums[4];
    V::sum4(sums, v, v, v, v);
    return sums[0];
}

template <class V>
float max_lanes(typename V::Float v) {
    float largest[4];
    V::max4(largest, v, v, v, v);
    return largest[0];
}

// Four accumulators in turn, so that the sum of a row does not wait for its own last addition. term(vector) is summed;
// lanes behind the row are `fill`, of which the term must be 0.
template <class V, class Term>
float sum_row(const float* x, std::int64_t count, float fill, Term term) {
    typename V::Float sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    std::int64_t i = 0;
    for (; i + 4 * V::kWidth <= count; i += 4 * V::kWidth) {
#pragma GCC unroll 4
        for (int part = 0; part < 4; ++part) sum[part] = V::add(sum[part], term(V::load(x + i + part * V::kWidth)));
    }
    for (; i + V::kWidth <= count; i += V::kWidth) sum[0] = V::add(sum[0], term(V::load(x + i)));
    if (i < count) sum[1] = V::add(sum[1], term(load_filled<V>(x + i, count - i, fill)));
    return sum_lanes<V>(V::add(V::add(sum[0], sum[1]), V::add(sum[2], sum[3])));
}

template <class V>
void norm(NormKind kind, const float* x, const float* weight, const float* bias, float eps, std::int64_t count,
          float* out) {
    using Float = typename V::Float;
    const auto size = static_cast<float>(count);
    const float mean =
        kind == NormKind::kLayerNorm ? sum_row<V>(x, count, 0.0f, [](Float v) { return v; }) / size : 0.0f;
    const Float center = V::set(mean);
    const float squares = sum_row<V>(x, count, mean, [&](Float v) {
        const Float d = V::sub(v, center);
        return V::mul(d, d);
    });
    const Float factor = V::set(1.0f / __builtin_sqrtf(squares / size + eps));
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        const Float scaled = V::mul(V::sub(V::load(x + i, left...), center), factor);
        Float value = V::mul(scaled, V::load(weight + i, left...));
        if (bias) value = V::add(value, V::load(bias + i, left...));
        V::store(out + i, value, left...);
    });
}

template <class V>
void gated(Activation activation, const float* gate, const float* up, std::int64_t count, float* out) {
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        const auto opened = activate<V>(activation, V::load(gate + i, left...));
        V::store(out + i, V::mul(opened, V::load(up + i, left...)), left...);
    });
}

template <class V>
void add(const float* a, const float* b, std::int64_t count, float* out) {
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        V::store(out + i, V::add(V::load(a + i, left...), V::load(b + i, left...)), left...);
    });
}

template <class V>
void dots(const float* x, const float* const* rows, std::int64_t count, std::int64_t size, float* out) {
    for (std::int64_t first = 0; first < count; first += 8) {
        const std::int64_t some = count - first < 8 ? count - first : 8;
        float products[8];
        dot_rows<V, 1>(x, 0, [&](std::int64_t n) { return rows[first + n]; }, some, size, products, 8);
        for (std::int64_t n = 0; n < some; ++n) out[first + n] = products[n];
    }
}

template <class V>
void weighted_sum(const float* const* rows, const float* weights, std::int64_t count, std::int64_t size, float* out) {
    const float one = 1.0f;
    weighted_rows<V, 1>(rows, 0, weights, 0, count, size, &one, out, 0);
}

// NaN counts as -inf: max(NaN, b) is b.
template <class V>
float max_row(const float* x, std::int64_t count) {
    auto largest = V::set(kNegativeInfinity);
    std::int64_t i = 0;
    for (; i + V::kWidth <= count; i += V::kWidth) largest = V::max(V::load(x + i), largest);
    if (i < count) largest = V::max(load_filled<V>(x + i, count - i, kNegativeInfinity), largest);
    return max_lanes<V>(largest);
}

// A row that holds NaN has the sum NaN; one that is infinite at its largest has 0 otherwise.
template <class V>
void exp_sum(const float* x, std::int64_t count, float* largest, float* sum) {
    using Float = typename V::Float;
    *largest = max_row<V>(x, count);
    *sum = 0.0f;
    if (*largest - *largest != 0.0f) {  // infinite
        for (std::int64_t i = 0; i < count; ++i) {
            if (x[i] != x[i]) *sum = x[i];
        }
        return;
    }
    const Float shift = V::set(*largest);
    *sum = sum_row<V>(x, count, kNegativeInfinity, [&](Float v) { return exp_of<V>(V::sub(v, shift)); });
}

template <class V>
void softmax(float* row, std::int64_t count) {
    float largest, sum;
    exp_sum<V>(row, count, &largest, &sum);
    const auto shift = V::set(largest), factor = V::set(1.0f / sum);
    for_vectors<V>(count, [&](std::int64_t i, auto... left) {
        V::store(row + i, V::mul(exp_of<V>(V::sub(V::load(row + i, left...), shift)), factor), left...);
    });
}

template <class V>
std::int64_t find_greater(const float* x, std::int64_t begin, std::int64_t end, float threshold) {
    const auto limit = V::set(threshold);
    std::int64_t i = begin;
    for (; i + V::kWidth <= end; i += V::kWidth) {
        const unsigned found = V::bits(V::greater(V::load(x + i), limit));
        if (found != 0) return i + __builtin_ctz(found);
    }
    for (; i < end; ++i) {
        if (x[i] > threshold) return i;
    }
    return end;
}

}  // namespace
}  // namespace lrengine
