#include <algorithm>
#include <vector>

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

// A product of the call, or all that read one weight: the first, behind which the others hang.
struct Together {
    LinearTask task;
    std::int64_t outputs;
};

std::vector<Together> by_weight(std::span<const LinearArgs> products, std::vector<LinearTask>& others) {
    std::vector<Together> all;
    std::vector<const LinearArgs*> firsts;
    others.reserve(products.size());  // so that pointers to them stay
    for (const LinearArgs& product : products) {
        const auto known = std::find_if(firsts.begin(), firsts.end(),
                                        [&](const LinearArgs* first) { return same_weight(*first, product); });
        if (known == firsts.end()) {
            firsts.push_back(&product);
            all.push_back({task_of(product), product.weight.rows});
            continue;
        }
        LinearTask& first = all[static_cast<std::size_t>(known - firsts.begin())].task;
        LinearTask& other = others.emplace_back(task_of(product));
        other.next = first.next;
        first.next = &other;
    }
    return all;
}

}  // namespace

// One job over the outputs of all weights, one after the other.
void CpuBackend::linear(std::span<const LinearArgs> products) {
    std::int64_t outputs = 0, work = 0;
    for (const LinearArgs& product : products) {
        check(product);
        work += product.weight.rows * product.weight.cols * product.x.rows;
    }
    std::vector<LinearTask> others;
    const std::vector<Together> together = by_weight(products, others);
    for (const Together& one : together) outputs += one.outputs;
    if (outputs == 0) return;
    const auto body = [&](std::int64_t begin, std::int64_t end) {
        std::int64_t first = 0;  // of this weight among all outputs
        for (const Together& one : together) {
            LinearTask task = one.task;
            task.begin = std::max<std::int64_t>(begin - first, 0);
            task.end = std::min(end - first, one.outputs);
            first += one.outputs;
            const std::int64_t rows = all_rows(task);
            if (task.begin >= task.end || rows == 0) continue;
            kernels_.linear(task, piece_scratch().get<float>(kernels_.linear_scratch(rows, task.cols)));
        }
    };
    const std::int64_t tiles = (outputs + kTile - 1) / kTile;
    parallel(tiles, work / tiles,
             [&](std::int64_t begin, std::int64_t end) { body(begin * kTile, std::min(end * kTile, outputs)); });
}

}  // namespace lrengine
