// out = activation(f W^T + bias) + residual for f_m = sum_l w_l h_l[m]: the mix of a few tokens' layers as the prologue
// of the product that maps them into another model's space.
//
// One launch for a few tokens: each block of the product (linear_few_rows.cuh) reads the states itself and mixes them
// into the shared memory that its rows of x go to. Bytes: the weight once; the states once a block, at the 64 bytes a
// clock that a multiprocessor gets from the second-level cache, about 110 GB/s. So 128 KiB of states take 1.2 us, what
// a launch of their own costs in a graph (1.3 us): up to there the mix is part of the product. L = 24, D = 1,024 in
// float32: one token, 96 KiB, beside 4.2 MB of weight for E = 2,048 (0.98 us at 4.3 TB/s). L = 12, D = 768 in bfloat16:
// seven tokens.
// Beyond: two launches. For M tokens f is written and read once, 8 M D bytes, where every block, or every column of
// output tiles of a product of many rows (E / 128 of them), would read all L states, 4 L M D bytes, again: for E =
// 2,048 and L = 24 that is 16 x 24 against 24 + 2 times M D. One kernel would only do as well where one tile is as wide
// as E.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/products.h"
#include "ops/layer_states.cuh"
#include "ops/linear_epilogue.cuh"
#include "ops/linear_few_rows.cuh"

namespace lrengine::cuda {

namespace {

constexpr std::int64_t kMostStateBytes = 128 * 1024;

// States of one type and stride, so that they and the product fit a kernel's parameters.
struct Mix {
    const void* states[kMaxLayers];
    std::int64_t stride;
    DType dtype;
    bool aligned;
    PackedView fused;  // what the layers before gave, if first > 0
    MatrixView logits;
    int layers, first, all;
    bool global;

    __device__ __forceinline__ PackedView state(int layer) const {
        return {{const_cast<void*>(states[layer]), stride, dtype}, aligned};
    }
};

struct StoreMapped {
    static constexpr bool kTakesPair = false;

    const Mix& mix;

    // Columns [first, first + length) of f; zeros where there are none. `weights`: kMaxLayers floats a row.
    template <DType kType, int kRows>
    __device__ __forceinline__ void stage(const Product& product, int first, int length, float* staged,
                                          float* weights) const {
        const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
        const int lane = thread % kWarp, packs = length / kPack;
        for (int m = thread / kWarp; m < product.rows; m += threads / kWarp) {
            const LaneWeights own = softmax_over_lanes(mix.logits, mix.global ? 0 : m, mix.all);
            weights[m * kMaxLayers + lane] = own.first;
            weights[m * kMaxLayers + lane + kWarp] = own.second;
        }
        __syncthreads();
        for (int index = thread; index < kRows * packs; index += threads) {
            const int m = kRows == 1 ? 0 : index / packs, k = (index - m * packs) * kPack;
            float sum[kPack] = {};
            if (m < product.rows && first + k < product.cols) {
                add_states(m, first + k, product.cols, weights + m * kMaxLayers + mix.first, sum);
            }
            float* row = staged + m * length;
            store_staged(row + place_of<kType>(k), row + place_of<kType>(k + 4), sum);
        }
    }

    __device__ __forceinline__ void take(const Product& product, int m, int n, float sum) const {
        finish_output({product.scales, product.bias, product.residual, product.out, product.activation}, m, n, sum);
    }
    __device__ void end_tile(int) const {}

private:
    __device__ __forceinline__ void add_states(int m, int col, int cols, const float* weights,
                                               float (&sum)[kPack]) const {
        constexpr int kInFlight = 4;
        if (mix.first > 0) load_pack(mix.fused, m, col, cols, sum);
        for (int layer = 0; layer < mix.layers; layer += kInFlight) {
            RawPack<Elements::kAny> raw[kInFlight];
#pragma unroll
            for (int i = 0; i < kInFlight; ++i) {
                raw[i] = {};
                if (layer + i < mix.layers) raw[i] = load_raw<Elements::kAny>(mix.state(layer + i), m, col, cols);
            }
#pragma unroll
            for (int i = 0; i < kInFlight; ++i) {
                if (layer + i >= mix.layers) break;
                float values[kPack];
                unpack(raw[i], mix.dtype, values);
#pragma unroll
                for (int c = 0; c < kPack; ++c) sum[c] += weights[layer + i] * values[c];
            }
        }
    }
};

template <DType kType, int kRows>
__global__ void __launch_bounds__(kMaxWarps* kWarp, blocks_per_processor(kRows))
    mixed_linear_kernel(const __grid_constant__ Products products, const __grid_constant__ Mix mix) {
    LRENGINE_DYNAMIC_SHARED(float, shared);
    StoreMapped sink{mix};
    Multiplier<kType, kRows, StoreMapped> multiplier(products, shared, sink);
    multiplier.run({static_cast<int>(blockIdx.x), products.tiles, static_cast<int>(gridDim.x)});
}

static_assert(sizeof(Products) + sizeof(Mix) <= 4000, "a launch has 4 KB of parameters");

bool one_kernel_does(const MixedLinearArgs& args) {
    const LayerMixArgs& mix = args.mix;
    const Matrix &x = args.product.x, &fused = mix.fused, &state = mix.states[0];
    const bool reads_fused = x.data == fused.data && x.rows == fused.rows && x.cols == fused.cols;
    const bool others_do = args.product.residual.data == fused.data || args.product.out.data == fused.data;
    if (mix.weights || !reads_fused || others_do || !has_few_rows(args.product)) return false;
    for (std::int64_t l = 1; l < mix.layers; ++l) {
        if (mix.states[l].dtype != state.dtype || mix.states[l].stride != state.stride) return false;
    }
    return mix.layers * x.rows * x.cols * static_cast<std::int64_t>(size_of(state.dtype)) <= kMostStateBytes;
}

Mix mix_of(const LayerMixArgs& args, bool global) {
    Mix mix{};
    mix.stride = args.states[0].stride;
    mix.dtype = args.states[0].dtype;
    mix.aligned = true;
    for (std::int64_t l = 0; l < args.layers; ++l) {
        mix.states[l] = args.states[l].data;
        mix.aligned = mix.aligned && packed_view_of(args.states[l]).aligned;
    }
    mix.fused = packed_view_of(args.fused);
    mix.logits = view_of(args.logits);
    mix.layers = static_cast<int>(args.layers);
    mix.first = static_cast<int>(args.first);
    mix.all = static_cast<int>(args.logits.cols);
    mix.global = global;
    return mix;
}

}  // namespace

void CudaBackend::mixed_linear(const MixedLinearArgs& args) {
    const bool global = check_layer_mix(args.mix);
    check_product(args.product);
    if (!one_kernel_does(args)) return Backend::mixed_linear(args);
    const Mix mix = mix_of(args.mix, global);
    const FewRowsPlan plan = plan_few_rows(*device_, std::span(&args.product, 1), true);
    with_kernel(args.product.weight.dtype, plan.rows, [&](auto weights, auto rows) {
        launch_few_rows(queue_, plan.shape, mixed_linear_kernel<weights(), rows()>, plan.products, mix);
    });
}

}  // namespace lrengine::cuda
