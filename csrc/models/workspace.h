// Where a forward pass computes: the device and the scratch memory of one caller, and what may end the pass.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "core/interruption.h"
#include "ops/backend.h"

namespace lrengine {

class Workspace {
public:
    // `interruption` outlives this; null: nothing ends the pass.
    Workspace(Backend& device, Arena& scratch, const Interruption* interruption = nullptr)
        : backend(device), arena(scratch), interruption_(interruption) {}

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

    // Before every layer of a pass over whole sequences: throws when it shall end here.
    void check_interruption() const {
        if (interruption_ != nullptr && *interruption_) (*interruption_)();
    }

private:
    Matrix make(std::int64_t rows, std::int64_t cols, DType dtype) const;

    const Interruption* interruption_;
};

}  // namespace lrengine
