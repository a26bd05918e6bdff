#include <algorithm>

#include "core/int4_groups.h"
#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

// Outputs are handed out by this many, the width of the widest tile.
constexpr std::int64_t kTile = 8;

void check(const LinearArgs& args) {
    const std::int64_t rows = args.x.rows, outputs = args.weight.rows;
    expect(args.weight && has_shape(args.x, rows, args.weight.cols), "linear: x is not [M, K]");
    expect(has_shape(args.out, rows, outputs), "linear: out is not [M, N]");
    expect(!args.bias || args.bias.size == outputs, "linear: bias is not [N]");
    expect(!args.residual || has_shape(args.residual, rows, outputs), "linear: residual is not [M, N]");
    switch (args.weight.dtype) {
        case DType::kFloat32:
        case DType::kBFloat16:
        case DType::kFloat16:
            return;
        case DType::kInt8:
            return expect(args.weight.scales != nullptr, "linear: int8 weight without scales");
        case DType::kInt4:
            expect(args.weight.group_scales != nullptr, "linear: int4 weight without scales");
            return expect(args.weight.cols % kInt4Block == 0 && is_group_size(args.weight.group_size),
                          "linear: int4 weight that is not in whole blocks and groups");
        default:
            fail(ErrorCode::kInternal, "linear: a weight of this type");
    }
}

LinearTask task_of(const LinearArgs& args) {
    LinearTask task;
    task.x = args.x.row<const float>(0);
    task.x_stride = args.x.stride;
    task.rows = args.x.rows;
    task.weight = args.weight.data;
    task.dtype = args.weight.dtype;
    task.cols = args.weight.cols;
    task.scales = args.weight.dtype == DType::kInt8 ? args.weight.scales : nullptr;
    task.group_scales = args.weight.group_scales;
    task.group_size = args.weight.group_size;
    task.bias = args.bias.data;
    if (args.residual) task.residual = args.residual.row<const float>(0);
    task.residual_stride = args.residual.stride;
    task.out = args.out.row<float>(0);
    task.out_stride = args.out.stride;
    task.activation = args.activation;
    return task;
}

}  // namespace

// One job over the outputs of all products, one after the other.
void CpuBackend::linear(std::span<const LinearArgs> products) {
    std::int64_t outputs = 0, work = 0;
    for (const LinearArgs& product : products) {
        check(product);
        outputs += product.weight.rows;
        work += product.weight.rows * product.weight.cols * product.x.rows;
    }
    if (work == 0 && outputs == 0) return;
    const auto body = [&](std::int64_t begin, std::int64_t end) {
        std::int64_t first = 0;  // of this product among all outputs
        for (const LinearArgs& product : products) {
            LinearTask task = task_of(product);
            task.begin = std::max<std::int64_t>(begin - first, 0);
            task.end = std::min(end - first, product.weight.rows);
            first += product.weight.rows;
            if (task.begin >= task.end || task.rows == 0) continue;
            const std::int64_t floats = kernels_.linear_scratch(task.rows, task.cols);
            kernels_.linear(task, piece_scratch().get<float>(floats));
        }
    };
    const std::int64_t tiles = (outputs + kTile - 1) / kTile;
    parallel(tiles, work / tiles,
             [&](std::int64_t begin, std::int64_t end) { body(begin * kTile, std::min(end * kTile, outputs)); });
}

}  // namespace lrengine
