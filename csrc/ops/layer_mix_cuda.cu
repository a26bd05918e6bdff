// f_m = sum_l softmax(logits)_l h_l[m] over the L layer states, global ([1, L] logits) or per token.
//
// One pass: L M D elements read, M D written. At M = 512, L = 24, D = 1,024 in bfloat16: 25 + 1 MiB, a floor of 6.3 us
// at 4.3 TB/s; M = 16,384: 838 MiB, 205 us. G layers at a time while the encoder runs: L M D read and 2 M D L / G of
// float32 read and written, all of it in the second-level cache (models/mixer.h chooses G); no state is kept. A warp
// owns 256 columns of a token, holds the weights in its lanes and has eight layers' loads in flight; the softmax of L
// numbers is made anew by each of a token's D / 256 warps, which costs less than sharing it.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "ops/layer_states.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kTokensPerBlock = 4;  // of a warp each
constexpr int kLayersInFlight = 8;
constexpr std::int64_t kMaxGridRows = 65535;

struct LayerMixJob {
    LayerStates states;
    MatrixView logits, weights;
    PackedView fused;
    std::int64_t rows;
    int columns;
    int layers, first, all;  // of this call; those before them; L
    bool global;
};

template <Elements kElements>
__global__ void __launch_bounds__(kWarp* kTokensPerBlock) layer_mix_kernel(__grid_constant__ const LayerMixJob job) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const int lane = static_cast<int>(threadIdx.x);
    const int col = (static_cast<int>(blockIdx.x) * kWarp + lane) * kPack;
    const std::int64_t step = static_cast<std::int64_t>(gridDim.y) * kTokensPerBlock;
    for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * kTokensPerBlock + threadIdx.y; row < job.rows;
         row += step) {
        const LaneWeights weights = softmax_over_lanes(job.logits, job.global ? 0 : row, job.all);
        if (job.weights.data != nullptr && blockIdx.x == 0) {
            if (lane < job.all) store(job.weights, row, lane, weights.first);
            if (lane + kWarp < job.all) store(job.weights, row, lane + kWarp, weights.second);
        }
        float sum[kPack] = {};
        if (job.first > 0 && col < job.columns)
            load_pack<kPacksAreWhole<kElements>>(job.fused, row, col, job.columns, sum);
        for (int first = 0; first < job.layers; first += kLayersInFlight) {
            RawPack<kElements> raw[kLayersInFlight];
#pragma unroll
            for (int i = 0; i < kLayersInFlight; ++i) {
                if (first + i < job.layers && col < job.columns)
                    raw[i] = job.states.load<kElements>(first + i, row, col, job.columns);
            }
#pragma unroll
            for (int i = 0; i < kLayersInFlight; ++i) {
                if (first + i >= job.layers) break;
                const float weight = weights.of(job.first + first + i);
                if (col >= job.columns) continue;
                float values[kPack];
                unpack(raw[i], type_of<kElements>(job.states.state[first + i]), values);
#pragma unroll
                for (int c = 0; c < kPack; ++c) sum[c] += weight * values[c];
            }
        }
        if (col < job.columns) store_pack<kPacksAreWhole<kElements>>(job.fused, row, col, job.columns, sum);
    }
}

}  // namespace

void CudaBackend::layer_mix(const LayerMixArgs& args) {
    const std::int64_t layers = args.layers, rows = args.fused.rows, columns = args.fused.cols;
    const bool global = check_layer_mix(args);
    const LayerMixJob job{layer_states_of(args.states, layers),
                          view_of(args.logits),
                          view_of(args.weights),
                          packed_view_of(args.fused),
                          rows,
                          static_cast<int>(columns),
                          static_cast<int>(layers),
                          static_cast<int>(args.first),
                          static_cast<int>(args.logits.cols),
                          global};
    const auto tiles = static_cast<unsigned>(divide_up(columns, kWarp * kPack));
    const auto groups = static_cast<unsigned>(std::min(divide_up(rows, kTokensPerBlock), kMaxGridRows));
    const LaunchShape shape{dim3(tiles, groups), dim3(kWarp, kTokensPerBlock)};
    with_elements(elements_of(args.states, layers, {job.fused}),
                  [&](auto elements) { launch(queue_, shape, layer_mix_kernel<elements.value>, job); });
}

}  // namespace lrengine::cuda
