// score_0 = bias_0, score_l = key . h_l + bias_l, alpha = softmax(score), z = alpha_0 c + sum_l alpha_l (h_l + p_l)
// per token: the transformer mixer's attention, read at position 0.
//
// The softmax runs along with the sum (Milakov and Gimelshein, arXiv 1805.02867): what was summed is scaled down when a
// larger score comes, so that each state is read once: L M D elements read, M D written. At M = 512, L = 24, D = 1,024
// in bfloat16: 26 MiB, a floor of 6.3 us at 4.3 TB/s; M = 16,384: 838 MiB, 205 us. Positions [L, D] stay in the L1
// cache (24 x 1,024 float32: 96 KiB), the key in registers. G layers at a time while the encoder runs: the states are
// read while the second-level cache has them, and 2 M D L / G of float32 z are read and written there.
//
// A block is a token, a thread eight columns (sixteen above 4,096). Eight layers are loaded at once; their eight
// scores are summed over the block with one barrier.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/layer_states.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kMaxThreads = 512;
constexpr int kMaxWarps = kMaxThreads / kWarp;
constexpr int kMaxGroup = 8;

// Layers that are loaded at once: 32 registers' worth.
template <Elements kElements, int kPacks>
constexpr int kGroupOf = kMaxGroup / kPacks / (kIs16Bit<kElements> ? 1 : 2);

struct MixerAttentionJob {
    LayerStates states;
    PackedView key, positions, cls, z;
    const float* score_bias;
    float* running;  // [M, 2]: largest score, sum; null where all layers come at once
    std::int64_t running_stride;
    int columns;
    int layers, first;  // of this call; those before them
    bool last;
};

// scores[i] = their sum over the block, for every thread. Callers alternate between two `exchange`s [warps][kGroup], so
// that one barrier is enough: who writes one again has passed the barrier behind its last readers.
template <int kGroup>
__device__ __forceinline__ void sum_over_block(float (&scores)[kGroup], float* exchange) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) scores[i] = warp_sum(scores[i]);
    if (warps == 1) return;
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
        if (lane == 0) exchange[warp * kGroup + i] = scores[i];
        scores[i] = 0.0f;
    }
    __syncthreads();
    for (int other = 0; other < warps; ++other) {
#pragma unroll
        for (int i = 0; i < kGroup; ++i) scores[i] += exchange[other * kGroup + i];
    }
}

// Thread t of T holds packs t, t + T, ... of the token.
template <Elements kElements, int kPacks>
__global__ void __launch_bounds__(kMaxThreads) mixer_attention_kernel(__grid_constant__ const MixerAttentionJob job) {
    constexpr int kGroup = kGroupOf<kElements, kPacks>;
    constexpr bool kWhole = kPacksAreWhole<kElements>;
    LRENGINE_SHARED(float, exchange, 2 * kMaxWarps * kMaxGroup);
    LRENGINE_SHARED(float, all_scores, kMaxLayers);
    const std::int64_t token = blockIdx.x;
    const int first = static_cast<int>(threadIdx.x) * kPack, step = static_cast<int>(blockDim.x) * kPack;
    const int columns = job.columns;

    wait_for_previous_kernels();
    allow_next_kernel();

    // Position 0 attends to itself: the first term, with weight exp(0).
    float key[kPacks][kPack], z[kPacks][kPack];
    float* running = job.running + token * job.running_stride;
    const bool begins = job.first == 0;
    float largest = begins ? job.score_bias[0] : running[0], sum = begins ? 1.0f : running[1];
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
        load_pack<kWhole>(job.key, 0, first + p * step, columns, key[p]);
        load_pack<kWhole>(begins ? job.cls : job.z, begins ? 0 : token, first + p * step, columns, z[p]);
    }
    for (int group = 0; group * kGroup < job.layers; ++group) {
        const int layer = group * kGroup, left = job.layers - layer;
        RawPack<kElements> raw[kGroup][kPacks];
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
#pragma unroll
            for (int p = 0; p < kPacks; ++p) {
                raw[i][p] = {};
                if (i < left) raw[i][p] = job.states.load<kElements>(layer + i, token, first + p * step, columns);
            }
        }
        float scores[kGroup];
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            scores[i] = 0.0f;
#pragma unroll
            for (int p = 0; p < kPacks; ++p) {
                float state[kPack];
                unpack(raw[i][p], type_of<kElements>(job.states.state[layer + (i < left ? i : 0)]), state);
#pragma unroll
                for (int c = 0; c < kPack; ++c) scores[i] += key[p][c] * state[c];
            }
        }
        sum_over_block(scores, exchange + group % 2 * kMaxWarps * kMaxGroup);

        const float before = largest;
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            scores[i] = i < left ? scores[i] + job.score_bias[1 + job.first + layer + i] : -INFINITY;
            if (i < left && threadIdx.x == 0) all_scores[layer + i] = scores[i];
            largest = fmaxf(largest, scores[i]);
        }
        const float shrink = expf(before - largest);
        sum *= shrink;
#pragma unroll
        for (int i = 0; i < kGroup; ++i) {
            scores[i] = expf(scores[i] - largest);
            sum += scores[i];
        }
#pragma unroll
        for (int p = 0; p < kPacks; ++p) {
#pragma unroll
            for (int c = 0; c < kPack; ++c) z[p][c] *= shrink;
#pragma unroll
            for (int i = 0; i < kGroup; ++i) {
                float state[kPack];
                unpack(raw[i][p], type_of<kElements>(job.states.state[layer + (i < left ? i : 0)]), state);
#pragma unroll
                for (int c = 0; c < kPack; ++c) z[p][c] += scores[i] * state[c];
            }
        }
    }

    __syncthreads();
    if (!job.last && threadIdx.x == 0) {
        running[0] = largest;
        running[1] = sum;
    }
    const float factor = job.last ? 1.0f / sum : 1.0f;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
#pragma unroll 4
        for (int layer = 0; layer < job.layers; ++layer) {
            const float weight = expf(all_scores[layer] - largest);
            float position[kPack];
            load_pack<kWhole>(job.positions, job.first + layer, col, columns, position);
#pragma unroll
            for (int c = 0; c < kPack; ++c) z[p][c] += weight * position[c];
        }
#pragma unroll
        for (int c = 0; c < kPack; ++c) z[p][c] *= factor;
        store_pack<kWhole>(job.z, token, col, columns, z[p]);
    }
}

}  // namespace

void CudaBackend::mixer_attention(const MixerAttentionArgs& args) {
    const std::int64_t layers = args.layers, rows = args.z.rows, columns = args.z.cols;
    const std::int64_t all = args.score_bias.size - 1, last = args.first + layers;
    check_states(args.states, layers, args.z);
    expect(args.key.size == columns && args.cls.size == columns, "mixer_attention: key or cls is not [D]");
    expect(args.first >= 0 && last <= all, "mixer_attention: score_bias is not [L + 1]");
    expect(args.positions && args.positions.rows == all && args.positions.cols == columns,
           "mixer_attention: positions are not [L, D]");
    const bool keeps_running = has_shape(args.running, rows, 2) && args.running.dtype == DType::kFloat32;
    expect(layers == all || (keeps_running && args.z.dtype == DType::kFloat32),
           "mixer_attention: running is not [M, 2], or z not float32");
    expect_supported(is_float(args.positions.dtype), "mixer_attention: quantised positions");
    expect_supported(columns <= 2 * kPack * kMaxThreads, "mixer_attention: more than 8192 columns");
    const Matrix positions{const_cast<void*>(args.positions.data), args.positions.dtype, all, columns, columns};
    const MixerAttentionJob job{layer_states_of(args.states, layers),
                                packed_view_of(args.key),
                                packed_view_of(positions),
                                packed_view_of(args.cls),
                                packed_view_of(args.z),
                                args.score_bias.data,
                                static_cast<float*>(args.running.data),
                                args.running.stride,
                                static_cast<int>(columns),
                                static_cast<int>(layers),
                                static_cast<int>(args.first),
                                last == all};
    const int packs = columns <= kPack * kMaxThreads ? 1 : 2;
    const auto warps = static_cast<unsigned>(divide_up(columns, kPack * packs * kWarp));
    const LaunchShape shape{dim3(static_cast<unsigned>(rows)), dim3(warps * kWarp)};
    with_elements(elements_of(args.states, layers, {job.key, job.positions, job.cls, job.z}), [&](auto elements) {
        launch(queue_, shape,
               packs == 1 ? mixer_attention_kernel<elements.value, 1> : mixer_attention_kernel<elements.value, 2>, job);
    });
}

}  // namespace lrengine::cuda
