// Rotary positions.
#include "op_testing.h"

namespace {

using namespace op_testing;

}  // namespace

TEST(rope_turns_pairs_of_halves) {
    Random random(1);
    for (const std::int64_t d : {2, 6, 64}) {
        const std::int64_t heads = 3, rows = 5, half = d / 2;
        // The angle is rounded to float32, as in transformers; its sine is exact even for large positions.
        const std::int32_t positions[] = {0, 1, 77, 4095, 131071};
        std::vector<float> inv_freq;
        for (std::int64_t j = 0; j < half; ++j) {
            inv_freq.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(j) / static_cast<float>(d)));
        }
        const TestMatrix before(rows, heads * d, random), x(rows, heads * d);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < heads * d; ++c) x.at(r, c) = before.at(r, c);
        }
        backend().rope({x.view(), positions, vector_of(inv_freq), heads, d, 1.25f});
        check_close(x, 1e-6, [&](std::int64_t r, std::int64_t c) {
            const std::int64_t head = c / d * d, j = c % d % half;
            const float angle = static_cast<float>(positions[r]) * inv_freq[static_cast<std::size_t>(j)];
            const double low = before.at(r, head + j), high = before.at(r, head + j + half);
            const double cosine = 1.25 * std::cos(static_cast<double>(angle)),
                         sine = 1.25 * std::sin(static_cast<double>(angle));
            return c % d < half ? low * cosine - high * sine : high * cosine + low * sine;
        });
    }
}
