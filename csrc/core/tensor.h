// Views of memory that somebody else owns: weights (owned by the model) and activations (owned by an arena).
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace lrengine {

// A weight matrix [rows, cols], row-major and dense: rows are output channels, cols input channels, as in
// torch.nn.Linear. dtype is kFloat32, kBFloat16, kFloat16, kInt8 or kInt4. For kInt8, value = scales[row] *
// data[row, col]. For kInt4, value = group_scales[row, col / group_size] * (level[row, col] - 8), with levels packed as
// core/int4_groups.h says and cols a multiple of 32.
struct Weight {
    const void* data = nullptr;
    DType dtype = DType::kFloat32;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    const float* scales = nullptr;                // [rows], only for kInt8
    const std::uint16_t* group_scales = nullptr;  // bfloat16 [rows, groups()], only for kInt4
    std::int64_t group_size = 0;                  // 32, 64 or 128, only for kInt4

    explicit operator bool() const { return data != nullptr; }

    std::int64_t row_bytes() const {
        return dtype == DType::kInt4 ? cols / 2 : cols * static_cast<std::int64_t>(size_of(dtype));
    }
    std::int64_t groups() const { return (cols + group_size - 1) / group_size; }

    // Rows [first, first + count).
    Weight slice(std::int64_t first, std::int64_t count) const {
        Weight view = *this;
        view.data = static_cast<const char*>(data) + first * row_bytes();
        view.rows = count;
        if (scales != nullptr) view.scales += first;
        if (group_scales != nullptr) view.group_scales += first * groups();
        return view;
    }
};

// A float32 vector: bias, norm weight, learned vector. Null when the model has none.
struct Vector {
    const float* data = nullptr;
    std::int64_t size = 0;

    explicit operator bool() const { return data != nullptr; }
};

// Activations [rows, cols] with `stride` elements between rows; float32 on the CPU.
struct Matrix {
    void* data = nullptr;
    DType dtype = DType::kFloat32;
    std::int64_t rows = 0;
    std::int64_t cols = 0;
    std::int64_t stride = 0;

    explicit operator bool() const { return data != nullptr; }

    template <typename T>
    T* row(std::int64_t index) const {
        return static_cast<T*>(data) + index * stride;
    }

    // Columns [first, first + count) of every row.
    Matrix columns(std::int64_t first, std::int64_t count) const {
        Matrix view = *this;
        view.data = static_cast<char*>(data) + static_cast<std::size_t>(first) * size_of(dtype);
        view.cols = count;
        return view;
    }

    // Rows [first, first + count).
    Matrix slice(std::int64_t first, std::int64_t count) const {
        Matrix view = *this;
        view.data = static_cast<char*>(data) + static_cast<std::size_t>(first * stride) * size_of(dtype);
        view.rows = count;
        return view;
    }
};

// Sequences packed one after the other without padding: sequence b is rows [offsets[b], offsets[b + 1]).
// `offsets` has count + 1 entries; `host` and `device` are the same numbers (and the same pointer on the CPU).
struct Packing {
    const std::int32_t* host = nullptr;
    const std::int32_t* device = nullptr;
    std::int64_t count = 0;

    std::int64_t rows() const { return host[count]; }
    std::int64_t length(std::int64_t sequence) const { return host[sequence + 1] - host[sequence]; }
};

}  // namespace lrengine
