// Where a forward pass computes: the device and the scratch memory of one caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "ops/backend.h"

namespace lrengine {

struct Workspace {
    Backend& backend;
    Arena& arena;

    // Activations [rows, cols] without gaps between rows; rows may be 0.
    Matrix matrix(std::int64_t rows, std::int64_t cols) const;

    // A copy of host integers in backend memory; lives as long as the arena's scope.
    const std::int32_t* upload(std::span<const std::int32_t> values) const;

    // The elements of `x` as float32 in host memory, row after row. Waits for the device.
    std::vector<float> download(const Matrix& x) const;
};

}  // namespace lrengine
