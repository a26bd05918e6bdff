#include <algorithm>
#include <vector>

#include "core/int4_groups.h"
#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"
#include "ops/linear_together.h"

namespace lrengine {

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

std::int64_t outputs_of(std::span<const Together> together) {
    std::int64_t outputs = 0;
    for (const Together& one : together) outputs += one.outputs;
    return outputs;
}

std::int64_t work_of(std::span<const LinearArgs> products) {
    std::int64_t work = 0;
    for (const LinearArgs& product : products) work += product.weight.rows * product.weight.cols * product.x.rows;
    return work;
}

namespace {

// Outputs are handed out by this many, the width of the widest tile.
constexpr std::int64_t kTile = 8;

}  // namespace

void CpuBackend::linear(std::span<const LinearArgs> products) {
    for (const LinearArgs& product : products) check(product);
    const auto is_rounded = [](const LinearArgs& product) { return rounds_inputs(product.weight.dtype); };
    const auto rounded = std::count_if(products.begin(), products.end(), is_rounded);
    if (rounded == 0) return linear_exact(products);
    std::vector<LinearArgs> all(products.begin(), products.end());
    std::stable_partition(all.begin(), all.end(), is_rounded);
    linear_exact(std::span(all).subspan(static_cast<std::size_t>(rounded)));
    const std::span<const LinearArgs> others(all.data(), static_cast<std::size_t>(rounded));
    linear_rounded(others);
}

// One job over the outputs of all weights.
void CpuBackend::linear_exact(std::span<const LinearArgs> products) {
    std::vector<LinearTask> others;
    const std::vector<Together> together = by_weight(products, others);
    const std::int64_t outputs = outputs_of(together);
    if (outputs == 0) return;
    const auto piece = [&](const LinearTask& task) {
        kernels_.linear(task, piece_scratch().get<float>(kernels_.linear_scratch(all_rows(task), task.cols)));
    };
    const std::int64_t tiles = (outputs + kTile - 1) / kTile;
    parallel(tiles, work_of(products) / tiles, [&](std::int64_t begin, std::int64_t end) {
        for_outputs(together, begin * kTile, std::min(end * kTile, outputs), piece);
    });
}

}  // namespace lrengine
