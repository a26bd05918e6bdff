// T5's buckets on the GPU. Their edges are found on the host, by relative_bucket() itself: a logarithm that rounds
// differently by one unit would move them.
#pragma once

#include <algorithm>

#include "cuda/checks.h"
#include "cuda/device.cuh"
#include "ops/relative_bias.h"

namespace lrengine::cuda {

constexpr int kMaxBucketEdges = 128;

// edge[i] is the smallest distance in bucket exact + 1 + i of its side; below `exact` a bucket is a distance.
struct BucketEdges {
    const float* table;  // [buckets, H]; null: no bias
    int heads;
    int side;  // buckets of one side
    int exact;
    int count;
    bool bidirectional;
    int edge[kMaxBucketEdges];

    __device__ __forceinline__ float bias(int distance, int head) const {
        const int first = bidirectional && distance > 0 ? side : 0;
        const int away = bidirectional ? abs(distance) : max(-distance, 0);
        int bucket = min(away, exact);
        if (away >= exact) {
            for (int i = 0; i < count && away >= edge[i]; ++i) ++bucket;
        }
        return table[static_cast<std::int64_t>(first + bucket) * heads + head];
    }
};

inline BucketEdges bucket_edges_of(const RelativeBias& bias, std::int64_t heads) {
    BucketEdges edges{};
    edges.table = bias.table;
    if (bias.table == nullptr) return edges;
    expect(
        bias.buckets >= (bias.bidirectional ? 4 : 2) && bias.max_distance > bias.buckets / (bias.bidirectional ? 4 : 2),
        "attention: too few relative position buckets");
    edges.heads = static_cast<int>(heads);
    edges.side = static_cast<int>(bias.bidirectional ? bias.buckets / 2 : bias.buckets);
    edges.exact = edges.side / 2;
    edges.bidirectional = bias.bidirectional;
    edges.count = edges.side - edges.exact - 1;
    expect_supported(edges.count <= kMaxBucketEdges, "attention: more than 128 logarithmic buckets");
    // Buckets never fall with the distance, and max_distance is in the last one.
    std::int64_t low = edges.exact;
    for (int i = 0; i < edges.count; ++i) {
        std::int64_t high = bias.max_distance;
        while (low < high) {
            const std::int64_t middle = low + (high - low) / 2;
            if (relative_bucket(bias, -middle) > edges.exact + i) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        edges.edge[i] = static_cast<int>(low);
    }
    return edges;
}

}  // namespace lrengine::cuda
