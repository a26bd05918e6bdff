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

inline void check_states(const Matrix* states, std::int64_t layers, const Matrix& out) {
    expect(layers > 0, "layer_mix: no layers");
    expect_supported(layers <= kMaxLayers, "layer_mix: more than 64 layers");
    expect(has_shape(out, out.rows, out.cols), "layer_mix: output is not of a float type");
    for (std::int64_t l = 0; l < layers; ++l) {
        expect(has_shape(states[l], out.rows, out.cols), "layer_mix: states are not all [M, D]");
    }
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
