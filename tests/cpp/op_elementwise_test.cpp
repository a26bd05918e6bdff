// Gates, sums, row copies and means.
#include "op_testing.h"

namespace {

using namespace op_testing;

constexpr std::int64_t kGaps[] = {3, 8};  // rows that are aligned by chance only, and rows that are

}  // namespace

OP_TEST(gated_multiplies_the_activated_gate) {
    Random random(1);
    for (const Activation activation : kActivations) {
        for (const std::int64_t size : {1, 7, 16, 50, 256, 301}) {
            const TestMatrix gate(3, size, random, 8), up(3, size, random, 0), out(3, size, size % 2 == 0 ? 8 : 3);
            backend().gated({gate.view(), up.view(), out.view(), activation});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) {
                return reference_activation(activation, gate.at(m, c)) * up.at(m, c);
            });
        }
    }
}

// Relative to the result where it is large, to the input where it vanishes: about what one rounding of x costs.
OP_TEST(activations_are_exact_to_a_few_ulps_over_their_range) {
    const std::int64_t count = on_cuda() ? 4001 : 40001;
    const float step = on_cuda() ? 0.01f : 0.001f;
    for (const Activation activation : kActivations) {
        const TestMatrix x(1, count), one(1, count), out(1, count);
        for (std::int64_t i = 0; i < count; ++i) {
            x.set(0, i, static_cast<float>(i - count / 2) * step);
            one.set(0, i, 1.0f);
        }
        backend().gated({x.view(), one.view(), out.view(), activation});
        double worst = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            const double expected = reference_activation(activation, x.at(0, i));
            const double size = std::max(std::abs(expected), std::min<double>(1.0, std::abs(x.at(0, i))));
            worst = std::max(worst, std::abs(out.at(0, i) - expected) / (size + 1e-30));
        }
        CHECK(worst < 6e-7 + rounding(activation_type()));
    }
}

// The error test above is relative to x; where GELU of a negative number is small, its digits are right too.
OP_TEST(gelu_is_right_in_its_lower_tail) {
    if (on_cuda()) return;  // erff() there: one rounding of 1 + erf
    const std::int64_t count = 3001;
    const TestMatrix x(1, count), one(1, count), out(1, count);
    for (std::int64_t i = 0; i < count; ++i) {
        x.set(0, i, -4.0f + static_cast<float>(i) * 0.001f);
        one.set(0, i, 1.0f);
    }
    backend().gated({x.view(), one.view(), out.view(), Activation::kGelu});
    for (std::int64_t i = 0; i < count; ++i) {
        const double expected = reference_activation(Activation::kGelu, x.at(0, i));
        CHECK(std::abs(out.at(0, i) - expected) < 3e-6 * std::abs(expected));
    }
}

OP_TEST(activations_have_their_limits_at_infinity_and_keep_nan) {
    const TestMatrix x(1, 4, 0), one(1, 4, 0), out(1, 4, 0);
    const float inputs[] = {kInf, -200.0f, kNan, 0.0f};
    for (std::int64_t i = 0; i < 4; ++i) {
        x.set(0, i, inputs[i]);
        one.set(0, i, 1.0f);
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

OP_TEST(gated_and_add_may_write_over_an_input) {
    Random random(2);
    const TestMatrix a(4, 37, random), b(4, 37, random), gated(4, 37), sum(4, 37);
    backend().gated({a.view(), b.view(), gated.view(), Activation::kSilu});
    backend().add({a.view(), b.view(), sum.view()});
    check_close(sum, 1e-7,
                [&](std::int64_t m, std::int64_t c) { return static_cast<double>(a.at(m, c)) + b.at(m, c); });
    const TestMatrix copy(4, 37);
    copy.copy_from(b);
    backend().gated({a.view(), copy.view(), copy.view(), Activation::kSilu});
    CHECK(same_bits(copy, gated));
    backend().add({a.view(), b.view(), a.view()});
    CHECK(same_bits(a, sum));
}

OP_TEST(add_between_types_and_of_many_rows) {
    Random random(5);
    for (const DType type : activation_types()) {
        for (const std::int64_t gap : kGaps) {
            const TestMatrix a(21, 264, random, gap, type), b(21, 264, random, gap), out(21, 264, gap, type);
            backend().add({a.view(), b.view(), out.view()});
            check_close(out, 1e-7,
                        [&](std::int64_t m, std::int64_t c) { return static_cast<double>(a.at(m, c)) + b.at(m, c); });
        }
    }
}

OP_TEST(scatter_and_gather_move_rows) {
    Random random(3);
    for (const std::int64_t gap : kGaps) {
        const TestMatrix source(3, 24, random, gap), cache(6, 24, gap), back(3, 24);
        const TestIds rows{4, 0, 5};
        backend().scatter_rows({source.view(), cache.view(), rows.data()});
        CHECK(std::isnan(cache.at(1, 0)) && std::isnan(cache.at(2, 20)) && std::isnan(cache.at(3, 5)));
        backend().gather_rows({cache.view(), back.view(), rows.data()});
        CHECK(back.is_written_exactly());
        CHECK(same_bits(back, source));
    }
}

OP_TEST(rows_are_converted_on_the_way) {
    Random random(6);
    for (const DType type : activation_types()) {
        const TestMatrix source(2, 21, random, 3, type), cache(3, 21), back(2, 21, 3, type);
        const TestIds rows{2, 0};
        backend().scatter_rows({source.view(), cache.view(), rows.data()});
        backend().gather_rows({cache.view(), back.view(), rows.data()});
        check_close(back, rounding(activation_type()),
                    [&](std::int64_t m, std::int64_t c) { return static_cast<double>(source.at(m, c)); });
    }
}

// The CPU refuses; a GPU finds out when it is too late for that: it writes nothing outside, and reads NaN from there.
OP_TEST(row_copies_notice_rows_outside) {
    Random random(3);
    const TestMatrix source(3, 21, random), cache(6, 21), back(3, 21);
    const TestIds outside{4, 6, 5}, before{-1, 0, 1};
    const auto scatter = [&] { backend().scatter_rows({source.view(), cache.view(), outside.data()}); };
    const auto gather = [&] { backend().gather_rows({source.view(), back.view(), before.data()}); };
    if (!on_cuda()) {
        CHECK_ERROR(scatter(), ErrorCode::kInternal, "outside");
        CHECK_ERROR(gather(), ErrorCode::kInternal, "outside");
        return;
    }
    scatter();
    CHECK(same_bits(cache, 4, source, 0) && same_bits(cache, 5, source, 2));
    gather();
    CHECK(std::isnan(back.at(0, 0)) && same_bits(back, 1, source, 0));
}

OP_TEST(mean_pool_averages_each_sequence) {
    Random random(4);
    const std::vector<std::int64_t> lengths{3, 0, 1, 40};
    const TestPacking packing(lengths);
    for (const std::int64_t size : {1, 19, 64, 264}) {
        const TestMatrix x(44, size, random, size == 264 ? 8 : 3), out(4, size, size == 264 ? 8 : 3);
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

OP_TEST(elementwise_ops_refuse_shapes_that_do_not_fit) {
    Random random(7);
    const TestMatrix a(2, 8, random), b(2, 7, random), out(2, 8);
    const TestIds rows{0, 1};
    const TestPacking packing({1, 2});
    CHECK_ERROR(backend().gated({a.view(), b.view(), out.view()}), ErrorCode::kInternal, "gated");
    CHECK_ERROR(backend().add({b.view(), a.view(), out.view()}), ErrorCode::kInternal, "add");
    CHECK_ERROR(backend().scatter_rows({b.view(), out.view(), rows.data()}), ErrorCode::kInternal, "columns");
    CHECK_ERROR(backend().gather_rows({b.view(), out.view(), rows.data()}), ErrorCode::kInternal, "columns");
    CHECK_ERROR(backend().mean_pool({a.view(), out.view(), packing.view()}), ErrorCode::kInternal, "fewer rows");
}
