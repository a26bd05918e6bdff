#include <algorithm>
#include <utility>
#include <vector>

#include "core/int4_groups.h"
#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

// Outputs are handed out by this many, the width of the widest tile.
constexpr std::int64_t kTile = 8;
// The same of integer products: the widest panel.
constexpr std::int64_t kRoundedTile = 32;

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

// Rows that are computed at a time where they are rounded, to bound the scratch.
constexpr std::int64_t kRowsAtOnce = 512;

// Rows [first, first + kRowsAtOnce) of all products that have as many.
std::vector<LinearArgs> rows_of(std::span<const LinearArgs> products, std::int64_t first) {
    std::vector<LinearArgs> parts;
    for (LinearArgs part : products) {
        const std::int64_t rows = std::min(part.x.rows - first, kRowsAtOnce);
        if (rows <= 0) continue;
        part.x = part.x.slice(first, rows);
        part.out = part.out.slice(first, rows);
        if (part.residual) part.residual = part.residual.slice(first, rows);
        parts.push_back(part);
    }
    return parts;
}

// The inputs of these products, each once, without room for their integers; every task is told its own.
std::vector<RoundedRows> inputs_of(std::span<Together> together) {
    std::vector<RoundedRows> inputs;
    std::vector<std::pair<LinearTask*, std::size_t>> owners;
    for (Together& one : together) {
        for (LinearTask* task = &one.task; task != nullptr; task = task->next) {
            const auto known = std::find_if(inputs.begin(), inputs.end(), [&](const RoundedRows& input) {
                return input.x == task->x && input.x_stride == task->x_stride && input.rows == task->rows &&
                       input.cols == task->cols;
            });
            owners.emplace_back(task, known - inputs.begin());
            if (known == inputs.end()) inputs.push_back({task->x, task->x_stride, task->rows, task->cols});
        }
    }
    for (const auto& [task, index] : owners) task->rounded = &inputs[index];
    return inputs;
}

// Gives them room in the caller's scratch.
void place(const CpuKernels& kernels, std::span<RoundedRows> inputs) {
    const auto bytes_of = [&](const RoundedRows& input) {
        return (kernels.rounded_bytes(input.rows, input.cols) + 63) / 64 * 64;
    };
    std::int64_t bytes = 0;
    for (const RoundedRows& input : inputs) bytes += bytes_of(input) + input.rows * rounded_groups(input.cols) * 8;
    char* memory = job_scratch().get<char>(bytes);
    for (RoundedRows& input : inputs) {
        input.values = memory;
        memory += bytes_of(input);
    }
    for (RoundedRows& input : inputs) {
        const std::int64_t groups = input.rows * rounded_groups(input.cols);
        input.scales = reinterpret_cast<float*>(memory);
        input.starts = reinterpret_cast<std::int32_t*>(memory + groups * 4);
        memory += groups * 8;
    }
}

// The outputs of all weights of a call, one weight after the other, of which a piece takes [begin, end): visit(task of
// those of a weight).
template <class Visit>
void for_outputs(std::span<const Together> together, std::int64_t begin, std::int64_t end, Visit visit) {
    std::int64_t first = 0;  // of this weight among all outputs
    for (const Together& one : together) {
        LinearTask task = one.task;
        task.begin = std::max<std::int64_t>(begin - first, 0);
        task.end = std::min(end - first, one.outputs);
        first += one.outputs;
        if (task.begin < task.end && all_rows(task) > 0) visit(task);
    }
}

std::int64_t outputs_of(std::span<const Together> together) {
    std::int64_t outputs = 0;
    for (const Together& one : together) outputs += one.outputs;
    return outputs;
}

// Multiply-adds of a call.
std::int64_t work_of(std::span<const LinearArgs> products) {
    std::int64_t work = 0;
    for (const LinearArgs& product : products) work += product.weight.rows * product.weight.cols * product.x.rows;
    return work;
}

}  // namespace

void CpuBackend::linear(std::span<const LinearArgs> products) {
    for (const LinearArgs& product : products) check(product);
    const auto is_rounded = [](const LinearArgs& product) { return product.weight.dtype == DType::kInt8; };
    const auto rounded = std::count_if(products.begin(), products.end(), is_rounded);
    if (rounded == 0) return linear_exact(products);
    std::vector<LinearArgs> all(products.begin(), products.end());
    std::stable_partition(all.begin(), all.end(), is_rounded);
    linear_exact(std::span(all).subspan(static_cast<std::size_t>(rounded)));
    const std::span<const LinearArgs> others(all.data(), static_cast<std::size_t>(rounded));
    std::vector<LinearArgs> parts = rows_of(others, 0);
    for (std::int64_t row = kRowsAtOnce; !parts.empty(); row += kRowsAtOnce) {
        linear_rounded(parts);
        parts = rows_of(others, row);
    }
}

// x is rounded once for all weights; then one job over the outputs of all weights.
void CpuBackend::linear_rounded(std::span<const LinearArgs> products) {
    std::vector<LinearTask> others;
    std::vector<Together> together = by_weight(products, others);
    std::vector<RoundedRows> inputs = inputs_of(together);
    place(kernels_, inputs);
    const std::int64_t outputs = outputs_of(together), row_tile = kernels_.rounded_tile_rows;
    if (outputs == 0) return;
    for (const RoundedRows& input : inputs) {
        const auto round = [&](std::int64_t begin, std::int64_t end) {
            kernels_.round_rows(input, begin, end, piece_scratch().get<char>(kernels_.rounded_bytes(1, input.cols)));
        };
        parallel((input.rows + row_tile - 1) / row_tile, row_tile * input.cols, round);
    }
    const auto piece = [&](const LinearTask& task) {
        kernels_.linear_rounded(task, piece_scratch().get<char>(kernels_.rounded_scratch(task.cols)));
    };
    const std::int64_t tiles = (outputs + kRoundedTile - 1) / kRoundedTile;
    parallel(tiles, work_of(products) / tiles / 4, [&](std::int64_t begin, std::int64_t end) {
        for_outputs(together, begin * kRoundedTile, std::min(end * kRoundedTile, outputs), piece);
    });
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
