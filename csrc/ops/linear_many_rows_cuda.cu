// Products of more than 16 rows: the matrix library, and what it does not do.
//
//     out = activation(s_x[m] s_w[n] sum over k of x'[m, k] w'[n, k] + bias) + residual
//
// x' is x in the library's type: the weight's, or x's own for an int8 weight, whose levels are exact in every type, so
// that only its scales s_w come afterwards; for int4, whose groups have scales of their own, float16: a bfloat16 scale
// times a level has 11 bits, and s_w is the power of two per row that keeps its largest below 2^13. A 16-bit type too
// narrow for x gets x in parts whose sum it is, and a product each: float32 in three of bfloat16 or two of float16. s_x
// is 1, or, where x was wider than the float16 of the weight, a power of two per row that keeps x' in its range. The
// sums are float32.
//
// Products of one weight whose x are rows of one buffer (tied projections: keys of a target and of its source) are one
// product of the library, which reads the weight once, and are finished each for itself: for two, 3 launches instead of
// 4. Only where they need finishing anyway; otherwise each would write M N sums and read them again to spare a weight
// that the second-level cache still has.
//
// Bytes beside the product's own: x once read and once written when its type changes; an int8 (int4) weight once read
// and written twice (four times) as wide; M N (4 + 4) for the sums when the library cannot finish them, all of it in
// the second-level cache for up to a few hundred rows. SWCM's encoder, 64 tokens, d = 768: 0.2 MB of sums a product,
// 0.1 us at 4.3 TB/s.
#include <algorithm>

#include "cuda/checks.h"
#include "cuda/packs.cuh"
#include "cuda/products.h"
#include "cuda/weights.cuh"
#include "ops/linear_epilogue.cuh"

namespace lrengine::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPieceBytes = 64 << 20;  // bound of each of the scratch buffers, unless
constexpr std::int64_t kFewestRows = 128;       // at a time would be more
constexpr std::int64_t kMaxGridRows = 65535;    // of a grid's second dimension

__device__ __forceinline__ float rounded(float value, DType type) {
    if (type == DType::kBFloat16) return __bfloat162float(__float2bfloat16(value));
    return type == DType::kFloat16 ? __half2float(__float2half(value)) : value;
}

// The power of two above the largest of a row, over 2^10; for a block.
__device__ __forceinline__ int exponent_of(const PackedView& x, std::int64_t row, int cols) {
    LRENGINE_SHARED(float, partial, kWarp);
    float values[kPack], largest = 0.0f;
    for (int col = static_cast<int>(threadIdx.x) * kPack; col < cols; col += kThreads * kPack) {
        load_pack(x, row, col, cols, values);
#pragma unroll
        for (int i = 0; i < kPack; ++i) largest = fmaxf(largest, fabsf(values[i]));
    }
    largest = block_max(largest, partial);
    int exponent = 10;
    if (largest > 0.0f && largest <= 3.402823466e38f) frexpf(largest, &exponent);
    return max(exponent - 10, -100);
}

// A block a row: x / scale in parts, `part_size` elements from one to the next. scales (null: all 1): powers of two
// that bring each row's largest below 2^10.
__global__ void __launch_bounds__(kThreads)
    convert_kernel(PackedView x, MatrixView out, int parts, std::int64_t part_size, int cols, float* scales) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.x;
    const int exponent = scales != nullptr ? exponent_of(x, row, cols) : 0;
    if (scales != nullptr && threadIdx.x == 0) scales[row] = ldexpf(1.0f, exponent);
    const float inverse = ldexpf(1.0f, -exponent);
    const auto part_bytes = part_size * (out.dtype == DType::kFloat32 ? 4 : 2);
    for (int col = static_cast<int>(threadIdx.x) * kPack; col < cols; col += kThreads * kPack) {
        float values[kPack];
        load_pack(x, row, col, cols, values);
#pragma unroll
        for (int i = 0; i < kPack; ++i) values[i] *= inverse;
        MatrixView part = out;
        for (int p = 0; p < parts; ++p) {
            store_pack({part, true}, row, col, cols, values);
#pragma unroll
            for (int i = 0; i < kPack; ++i) {
                const float rest = values[i] - rounded(values[i], out.dtype);
                values[i] = rest == rest ? rest : 0.0f;  // an infinity is all in the first part
            }
            part.data = static_cast<char*>(part.data) + part_bytes;
        }
    }
}

// out = the levels of an int8 weight. Grid-stride over 16 bytes of it.
__global__ void __launch_bounds__(kThreads) widen_kernel(const uint4* levels, std::int64_t words, MatrixView out) {
    const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
    wait_for_previous_kernels();
    allow_next_kernel();
    for (std::int64_t word = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; word < words;
         word += stride) {
        const uint4 packed = levels[word];
        const unsigned parts[4] = {packed.x, packed.y, packed.z, packed.w};
        float values[2][kPack];
#pragma unroll
        for (int i = 0; i < 2 * kPack; ++i) {
            values[i / kPack][i % kPack] = static_cast<float>(static_cast<signed char>(parts[i / 4] >> (i % 4 * 8)));
        }
        store_pack({out, true}, 0, word * 16, word * 16 + 16, values[0]);
        store_pack({out, true}, 0, word * 16 + kPack, word * 16 + 16, values[1]);
    }
}

// The power of two over 2^9 of the largest scale of a row, for a warp; its exponent as float32 has it, at least 1.
__device__ __forceinline__ int row_exponent(const unsigned short* scales, int groups, int lane) {
    unsigned largest = 0;
    for (int group = lane; group < groups; group += kWarp) largest = max(largest, scales[group] & 0x7fffu);
#pragma unroll
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        largest = max(largest, __shfl_xor_sync(kAllLanes, largest, offset));
    }
    return max(static_cast<int>(largest >> 7) - 9, 1);
}

// out [rows, cols] = an int4 weight over row_scales [rows], which it makes. A warp a row, a lane a block at a time.
__global__ void __launch_bounds__(kThreads)
    widen_int4_kernel(WeightView weight, std::int64_t rows, MatrixView out, float* row_scales) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warps = static_cast<int>(gridDim.x) * (kThreads / kWarp);
    const int blocks = static_cast<int>(weight.cols / kInt4Block);
    const int groups = static_cast<int>((weight.cols + weight.group_size - 1) / weight.group_size);
    wait_for_previous_kernels();
    allow_next_kernel();
    for (std::int64_t row = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kWarp; row < rows;
         row += warps) {
        const unsigned short* scales = weight.group_scales + row * groups;
        const int exponent = row_exponent(scales, groups, lane);
        if (lane == 0) row_scales[row] = __uint_as_float(static_cast<unsigned>(exponent) << 23);
        const float inverse = __uint_as_float(static_cast<unsigned>(254 - exponent) << 23);
        for (int block = lane; block < blocks; block += kWarp) {
            const uint4 packed = static_cast<const uint4*>(weight.data)[row * blocks + block];
            const unsigned words[4] = {packed.x, packed.y, packed.z, packed.w};
            const float scale = bfloat16_of(scales[block * kInt4Block / weight.group_size]) * inverse;
#pragma unroll
            for (int pack = 0; pack < kInt4Block / kPack; ++pack) {
                float values[kPack];
#pragma unroll
                for (int i = 0; i < kPack; ++i) {
                    const int byte = pack % 2 * kPack + i;
                    const unsigned level = words[byte / 4] >> (byte % 4 * 8 + pack / 2 * 4) & 15u;
                    values[i] = scale * static_cast<float>(static_cast<int>(level) - kInt4Zero);
                }
                store_pack<true>({out, true}, row, block * kInt4Block + pack * kPack, weight.cols, values);
            }
        }
    }
}

// A thread eight columns of a row. Grid: blocks of columns, rows.
__global__ void __launch_bounds__(kThreads) finish_kernel(PackedView sums, const float* row_scales, PackedView residual,
                                                          PackedView out, int cols, Epilogue epilogue) {
    wait_for_previous_kernels();
    allow_next_kernel();
    const std::int64_t row = blockIdx.y;
    const int col = (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) * kPack;
    if (col >= cols) return;
    float values[kPack], added[kPack] = {};
    load_pack(sums, row, col, cols, values);
    if (epilogue.residual.data != nullptr) load_pack(residual, row, col, cols, added);
    const float row_scale = row_scales != nullptr ? row_scales[row] : 1.0f;
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
        if (col + i < cols) {
            float value = values[i] * row_scale;
            if (epilogue.scales != nullptr) value *= epilogue.scales[col + i];
            if (epilogue.bias != nullptr) value += epilogue.bias[col + i];
            values[i] = activate(epilogue.activation, value) + added[i];
        }
    }
    store_pack(out, row, col, cols, values);
}

bool is_packed(const Matrix& matrix) { return packed_view_of(matrix).aligned; }

Matrix dense(void* data, DType dtype, std::int64_t rows, std::int64_t cols) {
    return {data, dtype, rows, cols, divide_up(cols, kPack) * kPack};
}

bool is_packed(const Vector& vector) { return reinterpret_cast<std::uintptr_t>(vector.data) % 16 == 0; }

// Numbers of type `to` whose sum is a number of type `from`.
int parts_of(DType from, DType to) {
    if (from == to || to == DType::kFloat32) return 1;
    if (from == DType::kFloat32) return to == DType::kBFloat16 ? 3 : 2;
    return to == DType::kBFloat16 ? 2 : 1;
}

// How one product runs. Without memory the pointers are null: it is only measured.
struct Plan {
    DType type;                  // that the library multiplies in
    bool converts;               // x needs a copy in that type, or an aligned one
    int parts;                   // of that copy
    bool scales_rows;            // the copy is scaled by row
    bool widens;                 // the weight is int8 or int4
    bool finishes;               // the sums go to scratch, and a kernel of ours makes out of them
    bool accumulates;            // the library adds to out, which is the residual
    std::int64_t rows, outputs;  // of x and of the weight at a time
    void* x = nullptr;
    float* row_scales = nullptr;
    void* weight = nullptr;
    float* weight_scales = nullptr;  // of the rows of a widened int4 weight
    float* sums = nullptr;
    std::size_t bytes = 0;

    Plan(const LinearArgs& args, const MatmulLibrary& library, void* memory);
};

Plan::Plan(const LinearArgs& args, const MatmulLibrary& library, void* memory) {
    const auto cols = std::max<std::int64_t>(args.weight.cols, 1);
    const bool groups = args.weight.dtype == DType::kInt4;
    widens = groups || args.weight.dtype == DType::kInt8;
    type = groups ? DType::kFloat16 : widens ? args.x.dtype : args.weight.dtype;
    converts = args.x.dtype != type || !is_packed(args.x);
    parts = parts_of(args.x.dtype, type);
    scales_rows = type == DType::kFloat16 && args.x.dtype != type;
    accumulates = args.residual && args.residual.data == args.out.data && args.residual.dtype == args.out.dtype &&
                  args.residual.stride == args.out.stride && args.activation == Activation::kNone;
    // The library's bias has the type of its output.
    const bool fuses = library.fuses(args.activation) && is_packed(args.bias) &&
                       (args.out.dtype == DType::kFloat32 || (args.out.dtype == type && !args.bias));
    finishes = widens || scales_rows || parts > 1 || !fuses || !is_packed(args.out) || (args.residual && !accumulates);

    const auto width = static_cast<std::int64_t>(size_of(type));
    outputs = args.weight.rows;
    if (widens) outputs = std::min(outputs, std::max<std::int64_t>(1, kPieceBytes / (cols * width) / kPack) * kPack);
    rows = std::min<std::int64_t>(args.x.rows, kMaxGridRows);
    if (finishes) rows = std::min(rows, std::max(kFewestRows, kPieceBytes / 4 / outputs));
    if (converts) rows = std::min(rows, std::max(kFewestRows, kPieceBytes / width / cols / parts));

    Pieces pieces(memory);
    if (converts) x = pieces.take<char>(parts * dense(nullptr, type, rows, cols).stride * rows * width);
    if (scales_rows) row_scales = pieces.take<float>(rows);
    if (widens) weight = pieces.take<char>(outputs * cols * width);
    if (groups) weight_scales = pieces.take<float>(outputs);
    if (finishes) sums = pieces.take<float>(rows * dense(nullptr, type, rows, outputs).stride);
    bytes = pieces.used();
}

// Rows and outputs [first, first + count) of a product.
LinearArgs rows_of(const LinearArgs& args, std::int64_t first, std::int64_t count) {
    LinearArgs part = args;
    part.x = args.x.slice(first, count);
    part.out = args.out.slice(first, count);
    if (args.residual) part.residual = args.residual.slice(first, count);
    return part;
}

LinearArgs outputs_of(const LinearArgs& args, std::int64_t first, std::int64_t count) {
    LinearArgs part = args;
    part.weight = args.weight.slice(first, count);
    if (args.bias) part.bias = {args.bias.data + first, count};
    part.out = args.out.columns(first, count);
    if (args.residual) part.residual = args.residual.columns(first, count);
    return part;
}

// Part 0 of the copy.
Matrix convert(LaunchQueue& queue, const Plan& plan, const Matrix& x) {
    const Matrix copy = dense(plan.x, plan.type, x.rows, x.cols);
    launch(queue, {dim3(static_cast<unsigned>(x.rows)), dim3(kThreads)}, convert_kernel, packed_view_of(x),
           view_of(copy), plan.parts, x.rows * copy.stride, static_cast<int>(x.cols), plan.row_scales);
    return copy;
}

Weight widen(const Device& device, LaunchQueue& queue, const Plan& plan, const Weight& weight) {
    const std::int64_t elements = weight.rows * weight.cols, words = elements / 16;
    const bool groups = weight.dtype == DType::kInt4;
    const std::int64_t wanted = groups ? divide_up(weight.rows, kThreads / kWarp) : divide_up(words, kThreads);
    const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(wanted, 8 * device.processors()));
    if (groups) {
        launch(queue, {dim3(blocks), dim3(kThreads)}, widen_int4_kernel, view_of(weight), weight.rows,
               MatrixView{plan.weight, weight.cols, plan.type}, plan.weight_scales);
    } else {
        launch(queue, {dim3(blocks), dim3(kThreads)}, widen_kernel, static_cast<const uint4*>(weight.data), words,
               MatrixView{plan.weight, elements, plan.type});
    }
    return {.data = plan.weight, .dtype = plan.type, .rows = weight.rows, .cols = weight.cols};
}

void finish(LaunchQueue& queue, const Plan& plan, const LinearArgs& args, const Matrix& sums, const float* row_scales) {
    const WeightView weight = view_of(args.weight);
    const float* scales = plan.weight_scales != nullptr ? plan.weight_scales : weight.scales;
    const Epilogue epilogue{scales, args.bias.data, view_of(args.residual), view_of(args.out), args.activation};
    const auto blocks = static_cast<unsigned>(divide_up(sums.cols, kThreads * kPack));
    launch(queue, {dim3(blocks, static_cast<unsigned>(sums.rows)), dim3(kThreads)}, finish_kernel, packed_view_of(sums),
           row_scales, packed_view_of(args.residual), packed_view_of(args.out), static_cast<int>(sums.cols), epilogue);
}

// The sums of rows x; null where the library has made `args` of them.
Matrix multiply(Device& device, LaunchQueue& queue, const Plan& plan, const LinearArgs& args, const Matrix& x) {
    const Weight weight = plan.widens ? widen(device, queue, plan, args.weight) : args.weight;
    if (!plan.finishes) {
        device.matmul().run({x, weight, args.bias, args.out, plan.accumulates, args.activation}, queue.stream);
        return {};
    }
    const Matrix sums = dense(plan.sums, DType::kFloat32, x.rows, weight.rows);
    for (int p = 0; p < plan.parts; ++p) {
        const auto offset = static_cast<std::size_t>(p * x.rows * x.stride) * size_of(x.dtype);
        Matrix part = x;
        part.data = static_cast<char*>(x.data) + offset;
        device.matmul().run({part, weight, {}, sums, p > 0}, queue.stream);
    }
    return sums;
}

// The product of all parts' rows, with the out of the first.
LinearArgs joined(std::span<const LinearArgs> parts) {
    LinearArgs all = parts.front();
    for (const LinearArgs& part : parts.subspan(1)) all.x.rows += part.x.rows;
    return all;
}

// Outputs [n, n + sums.cols) of all parts' rows [m, m + sums.rows).
void finish_parts(LaunchQueue& queue, const Plan& plan, std::span<const LinearArgs> parts, const Matrix& sums,
                  std::int64_t m, std::int64_t n) {
    std::int64_t begin = 0;  // of the part among all rows
    for (const LinearArgs& part : parts) {
        const std::int64_t first = std::max(m, begin), last = std::min(m + sums.rows, begin + part.x.rows);
        if (first < last) {
            const LinearArgs some = outputs_of(rows_of(part, first - begin, last - first), n, sums.cols);
            const float* row_scales = plan.row_scales != nullptr ? plan.row_scales + (first - m) : nullptr;
            finish(queue, plan, some, sums.slice(first - m, last - first), row_scales);
        }
        begin += part.x.rows;
    }
}

}  // namespace

std::size_t many_rows_scratch(Device& device, std::span<const LinearArgs> parts) {
    return Plan(joined(parts), device.matmul(), nullptr).bytes;
}

bool can_join(Device& device, const LinearArgs& last, const LinearArgs& next) {
    const bool behind = next.x.data == last.x.slice(last.x.rows, 0).data && next.x.stride == last.x.stride &&
                        next.x.dtype == last.x.dtype;
    return behind && same_weight(last, next) && Plan(last, device.matmul(), nullptr).finishes &&
           Plan(next, device.matmul(), nullptr).finishes;
}

void run_many_rows(Device& device, LaunchQueue& queue, std::span<const LinearArgs> parts, void* scratch) {
    const LinearArgs all = joined(parts);
    const Plan plan(all, device.matmul(), scratch);
    for (std::int64_t m = 0; m < all.x.rows; m += plan.rows) {
        const std::int64_t rows = std::min(plan.rows, all.x.rows - m);
        const Matrix x = plan.converts ? convert(queue, plan, all.x.slice(m, rows)) : all.x.slice(m, rows);
        for (std::int64_t n = 0; n < all.weight.rows; n += plan.outputs) {
            // Of several parts only the weight is used: the library does not write their out.
            const LinearArgs part = outputs_of(rows_of(all, m, rows), n, std::min(plan.outputs, all.weight.rows - n));
            const Matrix sums = multiply(device, queue, plan, part, x);
            if (sums) finish_parts(queue, plan, parts, sums, m, n);
        }
    }
}

}  // namespace lrengine::cuda
