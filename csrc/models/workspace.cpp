#include "models/workspace.h"

#include <algorithm>
#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

float element_to_float(const char* data, std::size_t index, DType dtype) {
    std::uint16_t bits;
    switch (dtype) {
        case DType::kFloat32: {
            float value;
            __builtin_memcpy(&value, data + index * sizeof value, sizeof value);
            return value;
        }
        case DType::kBFloat16:
            __builtin_memcpy(&bits, data + index * sizeof bits, sizeof bits);
            return bfloat16_to_float(bits);
        case DType::kFloat16:
            __builtin_memcpy(&bits, data + index * sizeof bits, sizeof bits);
            return float16_to_float(bits);
        default:
            fail(ErrorCode::kInternal, "activations of type " + std::string(name_of(dtype)) + " cannot be read back");
    }
}

}  // namespace

Matrix Workspace::make(std::int64_t rows, std::int64_t cols, DType dtype) const {
    Matrix result = arena.matrix(std::max<std::int64_t>(rows, 1), cols, dtype);
    result.rows = rows;
    return result;
}

std::int32_t* Workspace::upload(std::span<const std::int32_t> values) const {
    auto* memory = arena.array<std::int32_t>(std::max<std::int64_t>(static_cast<std::int64_t>(values.size()), 1));
    if (!values.empty()) backend.copy_to_device(memory, values.data(), values.size_bytes());
    return memory;
}

std::vector<float> Workspace::download(const Matrix& x) const {
    std::vector<float> result(static_cast<std::size_t>(x.rows * x.cols));
    if (result.empty()) return result;
    const std::size_t span = static_cast<std::size_t>((x.rows - 1) * x.stride + x.cols);
    std::vector<char> raw(span * size_of(x.dtype));
    backend.copy_to_host(raw.data(), x.data, raw.size());
    for (std::int64_t row = 0; row < x.rows; ++row) {
        for (std::int64_t col = 0; col < x.cols; ++col) {
            result[static_cast<std::size_t>(row * x.cols + col)] =
                element_to_float(raw.data(), static_cast<std::size_t>(row * x.stride + col), x.dtype);
        }
    }
    return result;
}

}  // namespace lrengine
