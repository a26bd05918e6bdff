// Gates, sums, row copies and means.
#include "core/error.h"
#include "op_testing.h"

namespace {

using namespace op_testing;

}  // namespace

TEST(gated_multiplies_the_activated_gate) {
    Random random(1);
    for (const Activation activation : kActivations) {
        for (const std::int64_t size : {1, 7, 16, 50}) {
            const TestMatrix gate(3, size, random), up(3, size, random, 0), out(3, size);
            backend().gated({gate.view(), up.view(), out.view(), activation});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) {
                return reference_activation(activation, gate.at(m, c)) * up.at(m, c);
            });
        }
    }
}

// Relative to the result where it is large, to the input where it vanishes: about what one rounding of x costs.
TEST(activations_are_exact_to_a_few_ulps_over_their_range) {
    for (const Activation activation : kActivations) {
        const std::int64_t count = 40001;
        const TestMatrix x(1, count), one(1, count), out(1, count);
        for (std::int64_t i = 0; i < count; ++i) {
            x.at(0, i) = static_cast<float>(i - count / 2) * 0.001f;
            one.at(0, i) = 1.0f;
        }
        backend().gated({x.view(), one.view(), out.view(), activation});
        double worst = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const double expected = reference_activation(activation, x.at(0, i));
            const double size = std::max(std::abs(expected), std::min<double>(1.0, std::abs(x.at(0, i))));
            worst = std::max(worst, std::abs(out.at(0, i) - expected) / (size + 1e-30));
        }
        CHECK(worst < 6e-7);
    }
}

TEST(activations_have_their_limits_at_infinity_and_keep_nan) {
    const TestMatrix x(1, 4, 0), one(1, 4, 0), out(1, 4, 0);
    const float inputs[] = {kInf, -200.0f, kNan, 0.0f};
    for (std::int64_t i = 0; i < 4; ++i) {
        x.at(0, i) = inputs[i];
        one.at(0, i) = 1.0f;
    }
    for (const Activation activation : kActivations) {
        backend().gated({x.view(), one.view(), out.view(), activation});
        const double low = activation == Activation::kNone ? -200.0 : activation == Activation::kTanh ? -1.0 : 0.0;
        CHECK_EQUAL(out.at(0, 0), activation == Activation::kTanh ? 1.0f : kInf);
        CHECK_EQUAL(static_cast<double>(out.at(0, 1)), low);
        CHECK(std::isnan(out.at(0, 2)));
        CHECK_EQUAL(out.at(0, 3), 0.0f);
    }
}

TEST(gated_and_add_may_write_over_an_input) {
    Random random(2);
    const TestMatrix a(4, 37, random), b(4, 37, random), gated(4, 37), sum(4, 37);
    backend().gated({a.view(), b.view(), gated.view(), Activation::kSilu});
    backend().add({a.view(), b.view(), sum.view()});
    check_close(sum, 1e-7,
                [&](std::int64_t m, std::int64_t c) { return static_cast<double>(a.at(m, c)) + b.at(m, c); });
    const TestMatrix copy(4, 37);
    for (std::int64_t m = 0; m < 4; ++m) {
        for (std::int64_t c = 0; c < 37; ++c) copy.at(m, c) = b.at(m, c);
    }
    backend().gated({a.view(), copy.view(), copy.view(), Activation::kSilu});
    CHECK(same_bits(copy, gated));
    backend().add({a.view(), b.view(), a.view()});
    CHECK(same_bits(a, sum));
}

TEST(scatter_and_gather_move_rows) {
    Random random(3);
    const TestMatrix source(3, 21, random), cache(6, 21), back(3, 21);
    const std::int32_t rows[] = {4, 0, 5};
    backend().scatter_rows({source.view(), cache.view(), rows});
    CHECK(std::isnan(cache.at(1, 0)) && std::isnan(cache.at(2, 20)) && std::isnan(cache.at(3, 5)));
    backend().gather_rows({cache.view(), back.view(), rows});
    CHECK(back.is_written_exactly());
    CHECK(same_bits(back, source));
    const std::int32_t outside[] = {4, 6, 5}, before[] = {-1, 0, 1};
    CHECK_ERROR(backend().scatter_rows({source.view(), cache.view(), outside}), ErrorCode::kInternal, "outside");
    CHECK_ERROR(backend().gather_rows({cache.view(), back.view(), before}), ErrorCode::kInternal, "outside");
}

TEST(mean_pool_averages_each_sequence) {
    Random random(4);
    const std::vector<std::int64_t> lengths{3, 0, 1, 40};
    const TestPacking packing(lengths);
    for (const std::int64_t size : {1, 19, 64}) {
        const TestMatrix x(44, size, random), out(4, size);
        backend().mean_pool({x.view(), out.view(), packing.view()});
        check_close(out, 1e-6, [&](std::int64_t b, std::int64_t c) {
            double sum = 0;
            const std::int32_t* offsets = packing.view().host;
            for (std::int32_t r = offsets[b]; r < offsets[b + 1]; ++r) sum += x.at(r, c);
            const std::int64_t length = lengths[static_cast<std::size_t>(b)];
            return length == 0 ? 0.0 : sum / static_cast<double>(length);
        });
    }
}
