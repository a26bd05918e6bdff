// Rotary positions.
#include "op_testing.h"

namespace {

using namespace op_testing;

}  // namespace

OP_TEST(rope_turns_pairs_of_halves) {
    Random random(1);
    for (const std::int64_t d : {2, 6, 64, 80}) {
        const std::int64_t heads = d == 6 ? 11 : 3, rows = 5, half = d / 2;
        // The angle is rounded to float32, as in transformers; its sine is exact even for large positions.
        const TestIds positions{0, 1, 77, 4095, 131071};
        const TestVector inv_freq = TestVector::filled(half, 0.0f);
        for (std::int64_t j = 0; j < half; ++j) {
            inv_freq.set(j, std::pow(10000.0f, -2.0f * static_cast<float>(j) / static_cast<float>(d)));
        }
        const TestMatrix before(rows, heads * d, random), x(rows, heads * d);
        x.copy_from(before);
        backend().rope({x.view(), positions.data(), inv_freq.view(), heads, d, 1.25f});
        check_close(x, 1e-6, [&](std::int64_t r, std::int64_t c) {
            const std::int64_t head = c / d * d, j = c % d % half;
            const float angle = static_cast<float>(positions[r]) * inv_freq[j];
            const double low = before.at(r, head + j), high = before.at(r, head + j + half);
            const double cosine = 1.25 * std::cos(static_cast<double>(angle)),
                         sine = 1.25 * std::sin(static_cast<double>(angle));
            return c % d < half ? low * cosine - high * sine : high * cosine + low * sine;
        });
    }
}

OP_TEST(rope_refuses_shapes_that_do_not_fit) {
    Random random(2);
    const TestMatrix x(1, 12, random);
    const TestIds positions{0};
    const TestVector inv_freq(random.floats(3));
    CHECK_ERROR(backend().rope({x.view(), positions.data(), inv_freq.view(), 3, 4, 1.0f}), ErrorCode::kInternal,
                "inv_freq");
    CHECK_ERROR(backend().rope({x.view(), positions.data(), inv_freq.view(), 3, 6, 1.0f}), ErrorCode::kInternal,
                "x is not");
}
