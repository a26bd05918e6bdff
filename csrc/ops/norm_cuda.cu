// out = (x - mean) / sqrt(var + eps) * weight + bias,  or  x / sqrt(mean(x^2) + eps) * weight, per row of D columns.
//
// A team of threads keeps its row in registers between the statistics and the scaling, so x is read once:
// 2 M D elements and the weight (and bias) moved. At D = 768 in bfloat16 and one row that is 9 KiB, 2 ns at 4.3 TB/s:
// a decode step pays for the launch and two reductions; 16,384 rows are 50 MiB, a floor of 12 us.
// Up to 1,024 columns the team is a warp, four rows a block; wider rows have a block each.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/packs.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kPacksPerThread = 4;
constexpr int kWarpColumns = kPacksPerThread * kPack * kWarp;
constexpr int kRowsPerBlock = 4;  // of a warp each
constexpr int kMaxThreads = 1024;
constexpr std::int64_t kMaxColumns = static_cast<std::int64_t>(kPacksPerThread) * kPack * kMaxThreads;

struct NormJob {
    PackedView x, weight, bias, out;
    std::int64_t rows;
    int columns;
    NormKind kind;
    float eps;
};

// The sum over the row's team.
template <bool kBlockPerRow>
__device__ __forceinline__ float team_sum(float value, float* partial) {
    if constexpr (kBlockPerRow) return block_sum(value, partial);
    return warp_sum(value);
}

// Thread t of a team of T holds packs t, t + T, ... of the row.
template <bool kBlockPerRow, bool kWhole>
__global__ void __launch_bounds__(kBlockPerRow ? kMaxThreads : kWarp * kRowsPerBlock) norm_kernel(NormJob job) {
    LRENGINE_SHARED(float, partial, kWarp);
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= job.rows) return;  // a whole warp, or no thread of the block
    const int first = static_cast<int>(threadIdx.x) * kPack, step = static_cast<int>(blockDim.x) * kPack;
    const int columns = job.columns;
    const auto size = static_cast<float>(columns);
    wait_for_previous_kernels();
    allow_next_kernel();

    float values[kPacksPerThread][kPack];
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kPacksPerThread; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
        load_pack<kWhole>(job.x, row, col, columns, values[p]);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum += values[p][i];
    }
    const float mean = job.kind == NormKind::kLayerNorm ? team_sum<kBlockPerRow>(sum, partial) / size : 0.0f;

    float squares = 0.0f;
#pragma unroll
    for (int p = 0; p < kPacksPerThread; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
#pragma unroll
        for (int i = 0; i < kPack; ++i) {
            values[p][i] = col + i < columns ? values[p][i] - mean : 0.0f;
            squares += values[p][i] * values[p][i];
        }
    }
    const float factor = 1.0f / sqrtf(team_sum<kBlockPerRow>(squares, partial) / size + job.eps);

#pragma unroll
    for (int p = 0; p < kPacksPerThread; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
        float weight[kPack], bias[kPack] = {};
        load_pack<kWhole>(job.weight, 0, col, columns, weight);
        if (job.bias.matrix.data != nullptr) load_pack<kWhole>(job.bias, 0, col, columns, bias);
#pragma unroll
        for (int i = 0; i < kPack; ++i) weight[i] = values[p][i] * factor * weight[i] + bias[i];
        store_pack<kWhole>(job.out, row, col, columns, weight);
    }
}

}  // namespace

void CudaBackend::norm(const NormArgs& args) {
    const std::int64_t rows = args.x.rows, columns = args.x.cols;
    expect(has_shape(args.x, rows, columns) && has_shape(args.out, rows, columns),
           "norm: x and out are not both [M, D]");
    expect(args.weight && args.weight.size == columns, "norm: weight is not [D]");
    expect(!args.bias || args.bias.size == columns, "norm: bias is not [D]");
    expect_supported(columns <= kMaxColumns, "norm: more than 32768 columns");
    const NormJob job{packed_view_of(args.x),
                      packed_view_of(args.weight),
                      packed_view_of(args.bias),
                      packed_view_of(args.out),
                      rows,
                      static_cast<int>(columns),
                      args.kind,
                      args.eps};
    const bool whole =
        columns % kPack == 0 && job.x.aligned && job.weight.aligned && job.bias.aligned && job.out.aligned;
    if (columns <= kWarpColumns) {
        const LaunchShape shape{dim3(static_cast<unsigned>(divide_up(rows, kRowsPerBlock))),
                                dim3(kWarp, kRowsPerBlock)};
        launch(queue_, shape, whole ? norm_kernel<false, true> : norm_kernel<false, false>, job);
        return;
    }
    // One pack a thread as far as a block reaches: the fewer there are, the sooner the first sum is known.
    const std::int64_t packs = std::min<std::int64_t>(divide_up(columns, kPack), kMaxThreads);
    const LaunchShape shape{dim3(static_cast<unsigned>(rows)),
                            dim3(static_cast<unsigned>(divide_up(packs, kWarp)) * kWarp)};
    launch(queue_, shape, whole ? norm_kernel<true, true> : norm_kernel<true, false>, job);
}

}  // namespace lrengine::cuda
