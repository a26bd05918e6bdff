// T5's relative position buckets (arXiv 1910.10683, section 2.1), spread out over distances.
#pragma once

#include <cstdint>

#include "ops/attention.h"

namespace lrengine {

// The bucket of a key `distance` after (before, if negative) its query: half of the buckets are single distances, the
// rest grow logarithmically up to max_distance. In float32, as transformers computes it: the edges depend on rounding.
std::int64_t relative_bucket(const RelativeBias& bias, std::int64_t distance);

// For each head the bias of every distance in (-distances, distances), so that the biases of a row of scores lie in a
// row.
class BiasByDistance {
public:
    // Room that the constructor's `memory` must have.
    static std::int64_t floats(std::int64_t heads, std::int64_t distances);

    BiasByDistance(const RelativeBias& bias, std::int64_t heads, std::int64_t distances, float* memory);

    // The biases of `head` from this distance on.
    const float* from(std::int64_t head, std::int64_t distance) const {
        return memory_ + head * stride_ + origin_ + distance;
    }

private:
    const float* memory_;
    std::int64_t origin_;
    std::int64_t stride_;
};

}  // namespace lrengine
