// Where a forward pass computes: the device and the scratch memory of one caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "ops/backend.h"

namespace lrengine {

class Workspace {
public:
    Workspace(Backend& device, Arena& scratch) : backend(device), arena(scratch) {}

    Backend& backend;
    Arena& arena;

    // [rows, cols] without gaps between rows; rows may be 0. Three kinds: what products read and caches hold; the
    // residual stream, norms and layer states; and logits and weights, always float32.
    Matrix matrix(std::int64_t rows, std::int64_t cols) const { return make(rows, cols, backend.activation_dtype()); }
    Matrix residual(std::int64_t rows, std::int64_t cols) const { return make(rows, cols, backend.residual_dtype()); }
    Matrix floats(std::int64_t rows, std::int64_t cols) const { return make(rows, cols, DType::kFloat32); }

    // A copy of host integers in backend memory; lives as long as the arena's scope.
    std::int32_t* upload(std::span<const std::int32_t> values) const;

    // The elements of `x` as float32 in host memory, row after row. Waits for the device.
    std::vector<float> download(const Matrix& x) const;

private:
    Matrix make(std::int64_t rows, std::int64_t cols, DType dtype) const;
};

}  // namespace lrengine
