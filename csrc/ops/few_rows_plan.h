// How products of few rows are cut into the work of warps, on the host: what the kernels of linear_few_rows.cuh read.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "core/tensor.h"
#include "cuda/device.cuh"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/packs.cuh"
#include "cuda/relay.h"
#include "ops/fused.h"
#include "ops/linear.h"
#include "ops/norm.h"

namespace lrengine::cuda {

constexpr std::int64_t kFewRows = 16;  // M up to which the products are ours
constexpr int kOutputs = 4;            // rows of the weight that a warp reads at a time
constexpr int kPairOutputs = 2;        // of a pair of products, rows of each
constexpr int kMaxWarps = 8;           // of a block
constexpr int kMaxProducts = 16;       // of a launch: 2 KB of its 4 KB of parameters

// Elements of a weight in 16 bytes, and in the 512 bytes that a warp reads of one row at a time.
__host__ __device__ constexpr int per_load(DType type) {
    return type == DType::kFloat32 ? 4 : type == DType::kInt4 ? 32 : type == DType::kInt8 ? 16 : 8;
}
__host__ __device__ constexpr int per_chunk(DType type) { return kWarp * per_load(type); }

// Shared memory for x, and of a kernel in all: below the 99 KB that devices of compute capability 8.6 have.
constexpr std::int64_t kStageBytes = 80 * 1024;
constexpr std::size_t kMaxSharedBytes = 96 * 1024;

struct Product {
    PackedView x;
    MatrixView out, residual;            // residual.data is null when there is none
    const void* weight;                  // [outputs, cols], each row a multiple of 16 bytes
    const float* scales;                 // int8: [outputs]
    const float* bias;                   // or null
    const std::int32_t* out_rows;        // rows of out for rows of x, or null
    const unsigned short* group_scales;  // int4: bfloat16 [outputs, groups]
    int group_shift;                     // int4: a group is 1 << group_shift columns
    int rows, outputs, cols;
    int more;        // item behind the products with more rows for this weight, an x and an out of its own; 0: none
    int more_x;      // the item whose x follows this one's in shared memory; 0: none
    int x_number;    // the same for products of the same x, and of the same that follow it
    int first_tile;  // of its tiles among those of all products
    Activation activation;
};

// x of all products is out, the norm of this x, which every block computes for itself and the one with the first tile
// writes.
struct FusedNorm {
    PackedView x, out;  // x.matrix.data is null when there is none
    PackedView weight, bias;
    NormKind kind;
    float eps;
};

// A tile is `groups` warp-groups wide, 4 outputs a group; the `splits` warps of a group share the columns: in its step
// i warp s reads chunk i * splits + s. x lies in shared memory `stretch` chunks at a time.
// A pair is one product with another's weight, scales and bias beside it, for the same outputs: count is 1, the other
// is items[1], and a group has 2 outputs.
template <int kItems>
struct ProductList {
    static constexpr int kMost = kItems;

    Product items[kItems];
    int count;
    int tiles;
    int groups, splits, stretch;
    FusedNorm norm;
};

using Products = ProductList<kMaxProducts>;

static_assert(sizeof(Products) <= 4000, "a launch has 4 KB of parameters");

struct FewRowsPlan {
    Products products;
    std::int64_t staged_columns;  // of x at a time
    int rows;                     // bucket that the kernel is compiled for: 1, 2, 4, 8 or 16
    LaunchShape shape;            // shared_bytes: of x and of the partial sums
};

// Whether the few-row kernels can read this weight: rows that are whole 16-byte words.
bool is_packed(const Weight& weight);

// Whether this product is one for the few-row kernels.
bool has_few_rows(const LinearArgs& args);

// All weights are of one type and is_packed(); at most kMaxProducts, of at most kFewRows rows. Products of one weight
// become one as long as their rows are so few together: items [0, count) are products, those behind are their `more`.
// `split`: let several warps share an output where there are too few outputs to keep the memory busy.
FewRowsPlan plan_few_rows(const Device& device, std::span<const LinearArgs> products, bool split);

// The plan of a pair, on the same terms: two products of the same x and of as many outputs.
FewRowsPlan plan_pair(const Device& device, const LinearArgs& first, const LinearArgs& second);

// Adds the norm to a plan, if its kernels can do it: x is the norm's out in all products, and whole rows of it fit in
// shared memory. Throws Error(kInternal) if a shape does not fit norm.h.
bool fuse_norm(FewRowsPlan& plan, const NormArgs& norm);

// Products of few rows that fit in one launch, with the norm that they read if there is one.
std::optional<FewRowsPlan> plan_together(const Device& device, const std::optional<NormArgs>& norm,
                                         std::span<const LinearArgs> products);

// gated_linear() without its norm, as a pair that writes to args.out; null if it is none for the few-row kernels.
std::optional<FewRowsPlan> plan_gated(const Device& device, const GatedLinearArgs& args);

// A plan's list, which has at most kItems products (a pair: 2), for a launch that carries more than one.
template <int kItems>
ProductList<kItems> shortened(const Products& list) {
    ProductList<kItems> few{{}, list.count, list.tiles, list.groups, list.splits, list.stretch, list.norm};
    for (int i = 0; i < kItems; ++i) few.items[i] = list.items[i];
    return few;
}

// A launch of two halves, of which the second is the products of `second`: its blocks have room for `warps` warps and
// `shared_bytes` of the first half. As many as the device holds at a time, at most one for each of `parts` or tiles.
LaunchShape shape_of_halves(const Device& device, const FewRowsPlan& second, int parts, int warps,
                            std::size_t shared_bytes);

// linear() of a plan, whose weights are of this type.
void run_few_rows(LaunchQueue& queue, DType type, const FewRowsPlan& plan);

// Blocks of kMaxWarps that a processor holds at a time; the kernel's registers are limited accordingly.
constexpr int blocks_per_processor(int rows) { return rows <= 8 ? 2 : 1; }

// run(type, rows), both as constants, for the kernel of a plan.
template <typename Run>
void with_kernel(DType type, int rows, Run run) {
    const auto with_rows = [&](auto constant) {
        switch (rows) {
            case 1:
                return run(constant, std::integral_constant<int, 1>());
            case 2:
                return run(constant, std::integral_constant<int, 2>());
            case 4:
                return run(constant, std::integral_constant<int, 4>());
            case 8:
                return run(constant, std::integral_constant<int, 8>());
            default:
                return run(constant, std::integral_constant<int, 16>());
        }
    };
    switch (type) {
        case DType::kFloat32:
            return with_rows(std::integral_constant<DType, DType::kFloat32>());
        case DType::kBFloat16:
            return with_rows(std::integral_constant<DType, DType::kBFloat16>());
        case DType::kFloat16:
            return with_rows(std::integral_constant<DType, DType::kFloat16>());
        case DType::kInt4:
            return with_rows(std::integral_constant<DType, DType::kInt4>());
        default:
            return with_rows(std::integral_constant<DType, DType::kInt8>());
    }
}

// Every launch that needs it asks for the same, so that sessions do not lower each other's bound.
template <typename... Arguments>
void launch_few_rows(LaunchQueue& queue, const LaunchShape& shape, void (*kernel)(Arguments...),
                     const std::type_identity_t<Arguments>&... arguments) {
    constexpr std::size_t kAlwaysAllowed = 48 * 1024;
    if (shape.shared_bytes > kAlwaysAllowed) allow_shared(kernel, kMaxSharedBytes);
    launch(queue, shape, kernel, arguments...);
}

}  // namespace lrengine::cuda
