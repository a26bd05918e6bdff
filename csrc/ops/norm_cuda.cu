// out = (x - mean) / sqrt(var + eps) * weight + bias,  or  x / sqrt(mean(x^2) + eps) * weight, per row of D columns.
//
// A team of threads keeps its row in registers between the statistics and the scaling, so x is read once:
// 2 M D elements and the weight (and bias) moved. At D = 768 in bfloat16 and one row that is 9 KiB, 2 ns at 4.3 TB/s:
// a decode step pays for the launch, one trip to memory for x (the weight is fetched while the kernel before still
// runs) and two reductions; 16,384 rows are 50 MiB, a floor of 12 us.
// Up to 1,024 columns the team is a warp, four rows a block: shuffles alone are faster than barriers. Wider rows have a
// block each.
#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/packs.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kWarpPacks = 4;     // of a thread, where a warp takes a row
constexpr int kRowsPerBlock = 4;  // of a warp each
constexpr std::int64_t kWarpColumns = kWarpPacks * kPack * kWarp;

// A block that takes a row: a thread for each pack as far as that goes, then more packs for fewer threads, which have
// more registers each.
constexpr int kManyPacks = 4;
template <int kPacks>
constexpr int kMaxThreads = kPacks == 1 ? 1024 : 512;

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

// Thread t of a team of T holds packs t, t + T, ... of the row, of the weight and of the bias.
template <bool kBlockPerRow, int kPacks, bool kWhole>
__global__ void __launch_bounds__(kBlockPerRow ? kMaxThreads<kPacks> : kWarp * kRowsPerBlock) norm_kernel(NormJob job) {
    LRENGINE_SHARED(float, partial, kWarp);
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= job.rows) return;  // a whole warp, or no thread of the block
    const int first = static_cast<int>(threadIdx.x) * kPack, step = static_cast<int>(blockDim.x) * kPack;
    const int columns = job.columns;
    const auto size = static_cast<float>(columns);

    float weight[kPacks][kPack], bias[kPacks][kPack] = {};
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
        load_pack<kWhole>(job.weight, 0, col, columns, weight[p]);
        if (job.bias.matrix.data != nullptr) load_pack<kWhole>(job.bias, 0, col, columns, bias[p]);
    }
    wait_for_previous_kernels();
    allow_next_kernel();

    float values[kPacks][kPack];
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
        load_pack<kWhole>(job.x, row, col, columns, values[p]);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum += values[p][i];
    }
    const float mean = job.kind == NormKind::kLayerNorm ? team_sum<kBlockPerRow>(sum, partial) / size : 0.0f;

    float squares = 0.0f;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
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
    for (int p = 0; p < kPacks; ++p) {
        const int col = first + p * step;
        if (col >= columns) break;
#pragma unroll
        for (int i = 0; i < kPack; ++i) values[p][i] = values[p][i] * factor * weight[p][i] + bias[p][i];
        store_pack<kWhole>(job.out, row, col, columns, values[p]);
    }
}

// kBlockPerRow and kPacks as norm_kernel's.
template <bool kBlockPerRow, int kPacks>
void launch_norm(LaunchQueue& queue, const NormJob& job, const LaunchShape& shape) {
    const bool aligned = job.x.aligned && job.weight.aligned && job.bias.aligned && job.out.aligned;
    if (aligned && job.columns % kPack == 0) {
        launch(queue, shape, norm_kernel<kBlockPerRow, kPacks, true>, job);
    } else {
        launch(queue, shape, norm_kernel<kBlockPerRow, kPacks, false>, job);
    }
}

// A block a row.
template <int kPacks>
void launch_wide_norm(LaunchQueue& queue, const NormJob& job) {
    const auto warps = static_cast<unsigned>(divide_up(job.columns, kPacks * kPack * kWarp));
    launch_norm<true, kPacks>(queue, job, {dim3(static_cast<unsigned>(job.rows)), dim3(warps * kWarp)});
}

}  // namespace

void CudaBackend::norm(const NormArgs& args) {
    const std::int64_t rows = args.x.rows, columns = args.x.cols;
    expect(has_shape(args.x, rows, columns) && has_shape(args.out, rows, columns),
           "norm: x and out are not both [M, D]");
    expect(args.weight && args.weight.size == columns, "norm: weight is not [D]");
    expect(!args.bias || args.bias.size == columns, "norm: bias is not [D]");
    expect_supported(columns <= kManyPacks * kPack * kMaxThreads<kManyPacks>, "norm: more than 16384 columns");
    const NormJob job{packed_view_of(args.x),
                      packed_view_of(args.weight),
                      packed_view_of(args.bias),
                      packed_view_of(args.out),
                      rows,
                      static_cast<int>(columns),
                      args.kind,
                      args.eps};
    if (columns <= kWarpColumns) {
        const auto blocks = static_cast<unsigned>(divide_up(rows, kRowsPerBlock));
        launch_norm<false, kWarpPacks>(queue_, job, {dim3(blocks), dim3(kWarp, kRowsPerBlock)});
    } else if (columns <= kPack * kMaxThreads<1>) {
        launch_wide_norm<1>(queue_, job);
    } else {
        launch_wide_norm<kManyPacks>(queue_, job);
    }
}

}  // namespace lrengine::cuda
