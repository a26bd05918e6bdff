#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "ops/cpu_backend.h"
#include "ops/relative_bias.h"

namespace lrengine {

std::int64_t relative_bucket(const RelativeBias& bias, std::int64_t distance) {
    const std::int64_t buckets = bias.bidirectional ? bias.buckets / 2 : bias.buckets;
    const std::int64_t side = bias.bidirectional && distance > 0 ? buckets : 0;
    const std::int64_t away = bias.bidirectional ? std::abs(distance) : std::max<std::int64_t>(-distance, 0);
    const std::int64_t exact = buckets / 2;
    if (away < exact) return side + away;
    const float octaves = std::log(static_cast<float>(away) / static_cast<float>(exact));
    const auto range =
        static_cast<float>(std::log(static_cast<double>(bias.max_distance) / static_cast<double>(exact)));
    const auto step = static_cast<std::int64_t>(octaves / range * static_cast<float>(buckets - exact));
    return side + std::min(exact + step, buckets - 1);
}

namespace {

std::int64_t row_floats(std::int64_t distances) { return 2 * distances + kScorePadding; }

}  // namespace

std::int64_t BiasByDistance::floats(std::int64_t heads, std::int64_t distances) {
    return distances > 0 ? heads * row_floats(distances) : 0;
}

BiasByDistance::BiasByDistance(const RelativeBias& bias, std::int64_t heads, std::int64_t distances, float* memory)
    : memory_(memory), origin_(distances), stride_(row_floats(distances)) {
    if (distances == 0) return;
    expect(
        bias.buckets >= (bias.bidirectional ? 4 : 2) && bias.max_distance > bias.buckets / (bias.bidirectional ? 4 : 2),
        "attention: too few relative position buckets");
    for (std::int64_t i = 0; i < stride_; ++i) {
        const float* row = bias.table + relative_bucket(bias, i - origin_) * heads;
        for (std::int64_t head = 0; head < heads; ++head) memory[head * stride_ + i] = row[head];
    }
}

}  // namespace lrengine
