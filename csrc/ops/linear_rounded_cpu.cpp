// Products of int8 and int4 weights with rows that are rounded to int8 first (rounded_kernels.h).
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"
#include "ops/linear_together.h"

namespace lrengine {

namespace {

// Outputs are handed out by this many, the widest panel.
constexpr std::int64_t kTile = 32;

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

}  // namespace

// Rows that a product before has not rounded.
void CpuBackend::round(std::span<const RoundedRows> inputs) {
    const std::int64_t row_tile = kernels_.rounded_tile_rows;
    for (const RoundedRows& input : inputs) {
        parallel((input.rows + row_tile - 1) / row_tile, row_tile * input.cols,
                 [&](std::int64_t begin, std::int64_t end) {
                     char* row = piece_scratch().get<char>(kernels_.rounded_bytes(1, input.cols));
                     kernels_.round_rows(input, begin, end, row);
                 });
    }
}

// One job over the outputs of all weights.
void CpuBackend::multiply_rounded(std::span<const Together> together, std::int64_t work) {
    const std::int64_t outputs = outputs_of(together), tiles = (outputs + kTile - 1) / kTile;
    if (outputs == 0) return;
    const auto piece = [&](const LinearTask& task) {
        kernels_.linear_rounded(task, piece_scratch().get<char>(kernels_.rounded_scratch(task.cols)));
    };
    parallel(tiles, work / tiles / 4, [&](std::int64_t begin, std::int64_t end) {
        for_outputs(together, begin * kTile, std::min(end * kTile, outputs), piece);
    });
}

// x is rounded once for all weights.
void CpuBackend::linear_rounded(std::span<const LinearArgs> products) {
    std::vector<LinearArgs> parts = rows_of(products, 0);
    for (std::int64_t row = kRowsAtOnce; !parts.empty(); row += kRowsAtOnce) {
        std::vector<LinearTask> others;
        std::vector<Together> together = by_weight(parts, others);
        std::vector<RoundedRows> inputs = inputs_of(together);
        place(kernels_, inputs);
        round(inputs);
        multiply_rounded(together, work_of(parts));
        parts = rows_of(products, row);
    }
}

// The inner state is never written as floats: what `in` gives is rounded where it is made, for `out`.
void CpuBackend::feed_forward(const FeedForwardArgs& args) {
    const std::int64_t inner = args.in.weight.rows;
    if (args.gate.weight || !rounds_inputs(args.in.weight.dtype) || !rounds_inputs(args.out.weight.dtype) ||
        args.in.x.rows == 1 || !kernels_.rounds_outputs(inner)) {
        return Backend::feed_forward(args);
    }
    if (args.norm) norm(*args.norm);
    LinearArgs in = args.in;
    in.activation = args.activation;
    in.out = args.out.x;
    check(in);
    check(args.out);
    const std::array products{in, args.out};
    std::vector<LinearArgs> parts = rows_of(products, 0);
    for (std::int64_t row = kRowsAtOnce; !parts.empty(); row += kRowsAtOnce) {
        std::array together{Together{task_of(parts[0]), inner}, Together{task_of(parts[1]), args.out.weight.rows}};
        std::vector<RoundedRows> inputs = inputs_of(together);
        expect(inputs.size() == 2, "feed_forward: the inner state is its own input");
        place(kernels_, inputs);
        together[0].task.rounded_out = &inputs[1];
        round(std::span(inputs).first(1));
        multiply_rounded(std::span(together).first(1), work_of(std::span(parts).first(1)));
        multiply_rounded(std::span(together).last(1), work_of(std::span(parts).last(1)));
        parts = rows_of(products, row);
    }
}

}  // namespace lrengine
