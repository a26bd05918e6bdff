// The parts of top_k() that project_top_k() is made of too. Host side; kernels in select_cuda.cu and
// select_sort_cuda.cu.
#pragma once

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/products.h"
#include "ops/candidates.cuh"
#include "ops/select.h"

namespace lrengine::cuda {

Partials take_partials(Pieces& pieces, std::int64_t rows, std::int64_t k, std::int64_t parts);

// How many stretches to cut each of `rows` rows of `size` logits into, for all processors to have some.
int parts_for(const Device& device, std::int64_t rows, std::int64_t size);

// Logits [M, size], whose column 0 is id `first_id`, in `parts` stretches: parts [first_part, first_part + parts) of
// the partials.
void scan(LaunchQueue& queue, const Matrix& logits, int first_id, const Partials& partials, int first_part, int parts);

// The best of all parts, into values, ids and log_sum_exp.
void merge(LaunchQueue& queue, const Partials& partials, const Matrix& values, std::int32_t* ids, float* log_sum_exp);

// Checked arguments, any k. `scratch` is 256-byte aligned.
std::size_t top_k_scratch(const Device& device, const TopKArgs& args);
void run_top_k(const Device& device, LaunchQueue& queue, const TopKArgs& args, void* scratch);

// By sorting: k > kMaxListed. Leaves log_sum_exp alone.
std::size_t sort_scratch(const TopKArgs& args);
void run_sort(LaunchQueue& queue, const TopKArgs& args, void* scratch);

}  // namespace lrengine::cuda
