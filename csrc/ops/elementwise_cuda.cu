// Gates, sums, row copies, means: what is bound by memory alone. Each element is read once and written once; in
// bfloat16, a gate of one decode row (F = 8,192) moves 48 KiB (11 ns at 4.3 TB/s, less than its launch), of 4,096 rows
// 192 MiB: a floor of 47 us.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/cuda_backend.h"
#include "cuda/packs.cuh"
#include "ops/activation.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kRowsPerBlock = 8;
constexpr int kTileColumns = kWarp * kPack;  // of a block
constexpr std::int64_t kMaxGridRows = 65535;

// A warp takes 256 columns of a row; blocks go on to further rows where there are more than a grid may have.
LaunchShape shape_for(std::int64_t rows, std::int64_t columns) {
    const auto together = static_cast<unsigned>(std::clamp<std::int64_t>(rows, 1, kRowsPerBlock));
    const auto tiles = static_cast<unsigned>(divide_up(columns, kTileColumns));
    const auto groups = static_cast<unsigned>(std::min(divide_up(rows, together), kMaxGridRows));
    return {dim3(tiles, groups), dim3(kWarp, together)};
}

__device__ __forceinline__ std::int64_t first_row() {
    return static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y;
}

__device__ __forceinline__ std::int64_t row_step() { return static_cast<std::int64_t>(gridDim.y) * blockDim.y; }

__device__ __forceinline__ std::int64_t own_column() {
    return (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * kPack;
}

struct GatedJob {
    PackedView gate, up, out;
    std::int64_t rows, columns;
    Activation activation;
};

// out = activation(gate) * up: 3 M F elements moved.
__global__ void __launch_bounds__(kWarp* kRowsPerBlock) gated_kernel(GatedJob job) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t col = own_column();
    for (std::int64_t row = first_row(); row < job.rows; row += row_step()) {
        float gate[kPack], up[kPack];
        load_pack(job.gate, row, col, job.columns, gate);
        load_pack(job.up, row, col, job.columns, up);
#pragma unroll
        for (int i = 0; i < kPack; ++i) up[i] *= activate(job.activation, gate[i]);
        store_pack(job.out, row, col, job.columns, up);
    }
}

struct AddJob {
    PackedView a, b, out;
    std::int64_t rows, columns;
};

// out = a + b: 3 M D elements moved.
__global__ void __launch_bounds__(kWarp* kRowsPerBlock) add_kernel(AddJob job) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t col = own_column();
    for (std::int64_t row = first_row(); row < job.rows; row += row_step()) {
        float a[kPack], b[kPack];
        load_pack(job.a, row, col, job.columns, a);
        load_pack(job.b, row, col, job.columns, b);
#pragma unroll
        for (int i = 0; i < kPack; ++i) a[i] += b[i];
        store_pack(job.out, row, col, job.columns, a);
    }
}

// One of `from` and `to` gives row numbers, the other is null: row m itself.
struct CopyRowsJob {
    PackedView source, destination;
    const std::int32_t *from, *to;
    std::int64_t rows, columns;
    std::int64_t source_rows, destination_rows;
};

// destination[to[m]] = source[from[m]]: 2 M D elements moved. The host cannot see the row numbers: a row that is not
// there gives NaN, one that cannot be written is left out.
__global__ void __launch_bounds__(kWarp* kRowsPerBlock) copy_rows_kernel(CopyRowsJob job) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t col = own_column();
    for (std::int64_t row = first_row(); row < job.rows; row += row_step()) {
        const std::int64_t from = job.from != nullptr ? job.from[row] : row;
        const std::int64_t to = job.to != nullptr ? job.to[row] : row;
        if (to < 0 || to >= job.destination_rows) continue;
        float values[kPack];
        if (from >= 0 && from < job.source_rows) {
            load_pack(job.source, from, col, job.columns, values);
        } else {
#pragma unroll
            for (int i = 0; i < kPack; ++i) values[i] = __uint_as_float(0x7fc00000u);
        }
        store_pack(job.destination, to, col, job.columns, values);
    }
}

struct MeanPoolJob {
    PackedView x, out;
    const std::int32_t* offsets;
    std::int64_t columns;
};

// The mean of a sequence's rows: M D elements read, B D written. A block takes 256 columns of a sequence; its warps
// share out the rows.
__global__ void __launch_bounds__(kWarp* kRowsPerBlock) mean_pool_kernel(MeanPoolJob job) {
    LRENGINE_SHARED(float, partial, kRowsPerBlock* kTileColumns);
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t sequence = blockIdx.y, col = own_column();
    const std::int64_t begin = job.offsets[sequence], end = job.offsets[sequence + 1];
    float sum[kPack] = {};
    for (std::int64_t row = begin + threadIdx.y; row < end; row += kRowsPerBlock) {
        float values[kPack];
        load_pack(job.x, row, col, job.columns, values);
#pragma unroll
        for (int i = 0; i < kPack; ++i) sum[i] += values[i];
    }
    // Element i of a lane's pack lies at i * 32 + lane: lanes next to each other use banks next to each other.
    const int lane = static_cast<int>(threadIdx.x);
    float* own = partial + threadIdx.y * kTileColumns + lane;
#pragma unroll
    for (int i = 0; i < kPack; ++i) own[i * kWarp] = sum[i];
    __syncthreads();
    if (threadIdx.y != 0) return;
    const float factor = end > begin ? 1.0f / static_cast<float>(end - begin) : 0.0f;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
        for (int other = 1; other < kRowsPerBlock; ++other) sum[i] += partial[other * kTileColumns + i * kWarp + lane];
        sum[i] *= factor;
    }
    store_pack(job.out, sequence, col, job.columns, sum);
}

}  // namespace

void CudaBackend::gated(const GatedArgs& args) {
    const std::int64_t rows = args.out.rows, columns = args.out.cols;
    expect(
        has_shape(args.gate, rows, columns) && has_shape(args.up, rows, columns) && has_shape(args.out, rows, columns),
        "gated: gate, up and out are not all [M, F]");
    launch(queue_, shape_for(rows, columns), gated_kernel,
           GatedJob{packed_view_of(args.gate), packed_view_of(args.up), packed_view_of(args.out), rows, columns,
                    args.activation});
}

void CudaBackend::add(const AddArgs& args) {
    const std::int64_t rows = args.out.rows, columns = args.out.cols;
    expect(has_shape(args.a, rows, columns) && has_shape(args.b, rows, columns) && has_shape(args.out, rows, columns),
           "add: a, b and out are not all [M, D]");
    launch(queue_, shape_for(rows, columns), add_kernel,
           AddJob{packed_view_of(args.a), packed_view_of(args.b), packed_view_of(args.out), rows, columns});
}

void CudaBackend::scatter_rows(const ScatterRowsArgs& args) {
    const Matrix &source = args.source, &destination = args.destination;
    expect(has_shape(source, source.rows, source.cols) && has_shape(destination, destination.rows, source.cols),
           "scatter_rows: source and destination differ in columns");
    launch(queue_, shape_for(source.rows, source.cols), copy_rows_kernel,
           CopyRowsJob{packed_view_of(source), packed_view_of(destination), nullptr, args.rows, source.rows,
                       source.cols, source.rows, destination.rows});
}

void CudaBackend::gather_rows(const GatherRowsArgs& args) {
    const Matrix &source = args.source, &out = args.out;
    expect(has_shape(out, out.rows, out.cols) && has_shape(source, source.rows, out.cols),
           "gather_rows: source and out differ in columns");
    launch(queue_, shape_for(out.rows, out.cols), copy_rows_kernel,
           CopyRowsJob{packed_view_of(source), packed_view_of(out), args.rows, nullptr, out.rows, out.cols, source.rows,
                       out.rows});
}

void CudaBackend::mean_pool(const MeanPoolArgs& args) {
    const Packing& sequences = args.sequences;
    const std::int64_t columns = args.x.cols;
    expect(has_shape(args.x, args.x.rows, columns) && has_shape(args.out, sequences.count, columns),
           "mean_pool: out is not [B, D]");
    expect(sequences.rows() <= args.x.rows, "mean_pool: fewer rows than the packing has");
    expect_supported(sequences.count <= kMaxGridRows, "mean_pool: more than 65535 sequences");
    const LaunchShape shape{
        dim3(static_cast<unsigned>(divide_up(columns, kTileColumns)), static_cast<unsigned>(sequences.count)),
        dim3(kWarp, kRowsPerBlock)};
    launch(queue_, shape, mean_pool_kernel,
           MeanPoolJob{packed_view_of(args.x), packed_view_of(args.out), sequences.device, columns});
}

}  // namespace lrengine::cuda
