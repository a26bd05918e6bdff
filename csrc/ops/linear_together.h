// The products of one call: which of them read one weight, and what a thread gets of them.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "ops/cpu_kernels.h"
#include "ops/linear.h"

namespace lrengine {

// Throws Error(kInternal) for operands that do not belong together.
void check(const LinearArgs& product);

// Whether the rows that this type of weight meets are rounded to integers (rounded_kernels.h).
inline bool rounds_inputs(DType weight) { return weight == DType::kInt8 || weight == DType::kInt4; }

LinearTask task_of(const LinearArgs& product);

// A product of the call, or all that read one weight: the first, behind which the others hang.
struct Together {
    LinearTask task;
    std::int64_t outputs;
};

// `others` keeps those that hang behind another.
std::vector<Together> by_weight(std::span<const LinearArgs> products, std::vector<LinearTask>& others);

std::int64_t outputs_of(std::span<const Together> together);

// Multiply-adds of a call.
std::int64_t work_of(std::span<const LinearArgs> products);

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

}  // namespace lrengine
