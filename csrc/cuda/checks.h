// What an op checks of its arguments on the host before it launches.
#pragma once

#include <cstdint>

#include "core/error.h"
#include "core/tensor.h"

namespace lrengine::cuda {

// A broken contract between a model and an op is a bug of ours, but must not become a wild write.
inline void expect(bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kInternal, what);
}

// What is right but larger than a kernel was written for.
inline void expect_supported(bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kUnsupported, what);
}

inline bool is_float(DType dtype) {
    return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16;
}

// A matrix [rows, cols] of a type that kernels can load.
inline bool has_shape(const Matrix& matrix, std::int64_t rows, std::int64_t cols) {
    return is_float(matrix.dtype) && matrix.rows == rows && matrix.cols == cols && matrix.stride >= cols;
}

inline std::int64_t divide_up(std::int64_t value, std::int64_t by) { return (value + by - 1) / by; }

}  // namespace lrengine::cuda
