// The states of all encoder layers as a kernel parameter.
#pragma once

#include <initializer_list>

#include "cuda/checks.h"
#include "cuda/packs.cuh"
#include "ops/layer_mix.h"

namespace lrengine::cuda {

constexpr std::int64_t kMaxLayers = 64;  // 24 bytes each of the 4 KiB that a kernel's parameters may have

struct LayerStates {
    MatrixView state[kMaxLayers];
    bool aligned;  // all of them

    // Columns [col, col + 8) of a token's state after `layer`; those from `limit` on are 0.
    template <Elements kElements>
    __device__ __forceinline__ RawPack<kElements> load(int layer, std::int64_t row, std::int64_t col,
                                                       std::int64_t limit) const {
        return load_raw_once<kElements>(PackedView{state[layer], aligned}, row, col, limit);
    }
};

// Lane i holds the weights of layers i and i + 32.
struct LaneWeights {
    float first, second;

    __device__ __forceinline__ float of(int layer) const {
        return __shfl_sync(kAllLanes, layer < kWarp ? first : second, layer % kWarp);
    }
};

__device__ __forceinline__ LaneWeights softmax_over_lanes(const MatrixView& logits, std::int64_t row, int layers) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const float first = lane < layers ? load(logits, row, lane) : -INFINITY;
    const float second = lane + kWarp < layers ? load(logits, row, lane + kWarp) : -INFINITY;
    const float largest = warp_max(fmaxf(first, second));
    LaneWeights weights{lane < layers ? expf(first - largest) : 0.0f,
                        lane + kWarp < layers ? expf(second - largest) : 0.0f};
    const float factor = 1.0f / warp_sum(weights.first + weights.second);
    weights.first *= factor;
    weights.second *= factor;
    return weights;
}

inline void check_states(const Matrix* states, std::int64_t layers, const Matrix& out) {
    expect(layers > 0, "layer_mix: no layers");
    expect_supported(layers <= kMaxLayers, "layer_mix: more than 64 layers");
    expect(has_shape(out, out.rows, out.cols), "layer_mix: output is not of a float type");
    for (std::int64_t l = 0; l < layers; ++l) {
        expect(has_shape(states[l], out.rows, out.cols), "layer_mix: states are not all [M, D]");
    }
}

// Whether one row of logits is for all tokens.
inline bool check_layer_mix(const LayerMixArgs& args) {
    const std::int64_t layers = args.layers, rows = args.fused.rows, all = args.logits.cols;
    check_states(args.states, layers, args.fused);
    const bool global = args.logits.rows == 1 && rows != 1;
    expect(has_shape(args.logits, global ? 1 : rows, all) && args.first >= 0 && args.first + layers <= all,
           "layer_mix: logits are neither [M, L] nor [1, L]");
    expect(!args.weights || has_shape(args.weights, rows, all), "layer_mix: weights are not [M, L]");
    expect(layers == all || args.fused.dtype == DType::kFloat32, "layer_mix: a part's sum is not float32");
    expect_supported(all <= kMaxLayers, "layer_mix: more than 64 layers");
    return global;
}

inline LayerStates layer_states_of(const Matrix* states, std::int64_t layers) {
    LayerStates all{};
    all.aligned = true;
    for (std::int64_t l = 0; l < layers; ++l) {
        all.state[l] = view_of(states[l]);
        all.aligned = all.aligned && packed_view_of(states[l]).aligned;
    }
    return all;
}

// A type if all states have it, and all states and `others` can be moved in packs.
inline Elements elements_of(const Matrix* states, std::int64_t layers, std::initializer_list<PackedView> others) {
    bool whole = states[0].cols % kPack == 0;
    for (std::int64_t l = 0; l < layers; ++l) {
        whole = whole && packed_view_of(states[l]).aligned && states[l].dtype == states[0].dtype;
    }
    for (const PackedView& other : others) whole = whole && other.aligned;
    return whole ? elements_of(states[0].dtype) : Elements::kAny;
}

}  // namespace lrengine::cuda
