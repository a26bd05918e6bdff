// What the loader's tests share: a directory with given tensors, opened, and the numbers that a weight stands for.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/weight_loader.h"
#include "host_backend.h"
#include "model_files.h"

namespace loader_testing {

using namespace lrengine;
using namespace model_files;

template <typename T>
Tensor int8_tensor(const std::string& name, std::vector<std::int64_t> shape, const std::vector<T>& values) {
    return {name, "I8", std::move(shape), bytes_of(std::vector<std::int8_t>(values.begin(), values.end()))};
}

inline Tensor narrow_tensor(const std::string& name, const std::string& dtype, std::vector<std::int64_t> shape,
                            const std::vector<float>& values) {
    std::vector<std::uint16_t> bits;
    for (const float value : values) {
        bits.push_back(dtype == "BF16" ? float_to_bfloat16(value) : float_to_float16(value));
    }
    return {name, dtype, std::move(shape), bytes_of(bits)};
}

// A directory with these tensors, opened, and everything that loading from it needs.
struct Opened {
    explicit Opened(const std::vector<Tensor>& tensors, HostBackend::Memory memory = HostBackend::Memory::kShared,
                    std::size_t shift = 0)
        : checkpoint(open(directory, tensors, shift)), backend(memory), storage(backend) {}

    static Checkpoint open(const TemporaryDirectory& directory, const std::vector<Tensor>& tensors, std::size_t shift) {
        directory.write("model.safetensors", safetensors_bytes(tensors, shift));
        return Checkpoint::open(directory.path());
    }

    WeightLoader loader(std::optional<DType> target = std::nullopt, std::int64_t group_size = kInt4GroupSize) {
        return {checkpoint, backend, storage, search, target, group_size};
    }
    bool in_mapping(const std::string& name, const void* data) const { return checkpoint.find(name)->data == data; }

    TemporaryDirectory directory;
    Checkpoint checkpoint;
    WeightSearch search;
    HostBackend backend;
    WeightStorage storage;
};

// Row-major values of any weight.
inline std::vector<float> values_of(const Weight& weight) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < weight.rows * weight.cols; ++i) {
        switch (weight.dtype) {
            case DType::kFloat32:
                values.push_back(static_cast<const float*>(weight.data)[i]);
                break;
            case DType::kBFloat16:
                values.push_back(bfloat16_to_float(static_cast<const std::uint16_t*>(weight.data)[i]));
                break;
            case DType::kFloat16:
                values.push_back(float16_to_float(static_cast<const std::uint16_t*>(weight.data)[i]));
                break;
            case DType::kInt4: {
                const auto row = static_cast<std::size_t>(i / weight.cols),
                           col = static_cast<std::size_t>(i % weight.cols);
                const unsigned pair = static_cast<const std::uint8_t*>(
                    weight.data)[row * static_cast<std::size_t>(weight.cols) / 2 + col / 32 * 16 + col % 16];
                const float scale =
                    bfloat16_to_float(weight.group_scales[static_cast<std::int64_t>(row) * weight.groups() +
                                                          static_cast<std::int64_t>(col) / weight.group_size]);
                values.push_back(scale * (static_cast<float>(col % 32 < 16 ? pair & 15u : pair >> 4) - 8.0f));
                break;
            }
            default:
                values.push_back(weight.scales[i / weight.cols] * static_cast<const std::int8_t*>(weight.data)[i]);
        }
    }
    return values;
}

inline std::vector<float> values_of(const Vector& vector) { return {vector.data, vector.data + vector.size}; }

inline std::vector<float> random_values(std::size_t count) {
    std::mt19937 engine(7);
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(engine);
    return values;
}

inline constexpr std::array<HostBackend::Memory, 2> kMemories{HostBackend::Memory::kShared, HostBackend::Memory::kOwn};

}  // namespace loader_testing
