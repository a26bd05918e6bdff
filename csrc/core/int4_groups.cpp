#include "core/int4_groups.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/dtype.h"

namespace lrengine {

namespace {

constexpr std::int64_t kLargestGroup = 128;
constexpr int kCandidates = 14;
constexpr std::int64_t kLanes = 8;  // partial sums, in the order of vector units

// To the nearest integer, ties to even, for |value| < 2^22: adding 1.5 * 2^23 leaves no bits for a fraction.
float round_to_even(float value) {
    constexpr float kShift = 12582912.0f;
    return (value + kShift) - kShift;
}

std::uint16_t to_scale(float value) {
    const std::uint16_t bits = float_to_bfloat16(value);
    return static_cast<std::uint16_t>((bits & 0x8000u) | std::min<unsigned>(bits & 0x7fffu, kLargestGroupScale));
}

// The values of a group over the largest of them, so that no square over- or underflows.
class Group {
public:
    explicit Group(std::span<const float> values) {
        for (const float value : values) {
            if (std::fabs(value) > std::fabs(extreme_)) extreme_ = value;
        }
        largest_ = extreme_ == 0.0f ? 1.0f : std::fabs(extreme_);
        for (std::size_t i = 0; i < values.size(); ++i) ratios_[i] = values[i] / largest_;
        size_ = (static_cast<std::int64_t>(values.size()) + kLanes - 1) / kLanes * kLanes;
    }

    std::uint16_t best_scale() const {
        std::uint16_t best = 0;
        float least = sum([&](std::int64_t i) { return ratios_[i] * ratios_[i]; });
        const auto keep_better = [&](std::uint16_t scale) {
            const Steps steps = steps_of(scale);
            const float squares = sum([&](std::int64_t i) {
                const float error = ratios_[i] - steps.size * level(i, steps);
                return error * error;
            });
            if (squares < least) {
                least = squares;
                best = scale;
            }
        };
        for (int i = 0; i < kCandidates; ++i)
            keep_better(to_scale(extreme_ / -(5.25f + 0.25f * static_cast<float>(i))));
        const Steps steps = steps_of(best);
        const float squares = sum([&](std::int64_t i) { return level(i, steps) * level(i, steps); });
        const float products = sum([&](std::int64_t i) { return ratios_[i] * level(i, steps); });
        keep_better(to_scale(products / (squares > 0.0f ? squares : 1.0f) * largest_));
        return best;
    }

    // levels[i], offset included.
    void write_levels(std::uint16_t scale, std::uint8_t* levels, std::size_t count) const {
        const Steps steps = steps_of(scale);
        for (std::size_t i = 0; i < count; ++i) {
            levels[i] = static_cast<std::uint8_t>(level(static_cast<std::int64_t>(i), steps) + kInt4Zero);
        }
    }

private:
    struct Steps {
        float size, inverse;  // of a ratio; 0 where the scale is
    };

    Steps steps_of(std::uint16_t scale) const {
        const float size = bfloat16_to_float(scale) / largest_;
        return {size, size != 0.0f ? 1.0f / size : 0.0f};
    }

    float level(std::int64_t i, Steps steps) const {
        return std::clamp(round_to_even(ratios_[i] * steps.inverse), -8.0f, 7.0f);
    }

    template <typename Term>
    float sum(Term term) const {
        std::array<float, kLanes> parts{};
        for (std::int64_t i = 0; i < size_; i += kLanes) {
            for (std::int64_t lane = 0; lane < kLanes; ++lane) parts[static_cast<std::size_t>(lane)] += term(i + lane);
        }
        for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
            for (std::size_t lane = 0; lane < half; ++lane) parts[lane] += parts[lane + half];
        }
        return parts[0];
    }

    float extreme_ = 0.0f, largest_ = 1.0f;
    std::int64_t size_ = 0;
    float ratios_[kLargestGroup] = {};
};

}  // namespace

void quantize_groups(std::span<const float> row, std::int64_t group_size, std::uint8_t* levels, std::uint16_t* scales) {
    const auto size = static_cast<std::size_t>(group_size);
    std::uint8_t unpacked[kLargestGroup];
    for (std::size_t first = 0; first < row.size(); first += size) {
        const std::span<const float> values = row.subspan(first, std::min(size, row.size() - first));
        const Group group(values);
        *scales = group.best_scale();
        group.write_levels(*scales++, unpacked, values.size());
        for (std::size_t block = 0; block < values.size(); block += kInt4Block) {
            for (std::size_t j = 0; j < kInt4Block / 2; ++j) {
                const unsigned high = unpacked[block + kInt4Block / 2 + j];
                *levels++ = static_cast<std::uint8_t>(unpacked[block + j] | high << 4);
            }
        }
    }
}

void dequantize_groups(const std::uint8_t* levels, const std::uint16_t* scales, std::int64_t group_size,
                       std::span<float> row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
        const std::size_t within = i % kInt4Block;
        const unsigned byte = levels[i / kInt4Block * (kInt4Block / 2) + within % (kInt4Block / 2)];
        const unsigned level = within < kInt4Block / 2 ? byte & 15u : byte >> 4;
        row[i] = bfloat16_to_float(scales[i / static_cast<std::size_t>(group_size)]) *
                 static_cast<float>(static_cast<int>(level) - kInt4Zero);
    }
}

}  // namespace lrengine
