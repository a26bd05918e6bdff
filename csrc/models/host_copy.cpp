#include "models/host_copy.h"

#include "core/weight_convert.h"

namespace lrengine {

std::vector<float> read_back(const Vector& vector, Backend& backend) {
    std::vector<float> values(static_cast<std::size_t>(vector.size));
    backend.copy_to_host(values.data(), vector.data, values.size() * sizeof(float));
    return values;
}

std::vector<float> read_back(const Weight& weight, Backend& backend) {
    std::vector<float> values(static_cast<std::size_t>(weight.rows * weight.cols));
    std::vector<char> stored(values.size() * size_of(weight.dtype));
    backend.copy_to_host(stored.data(), weight.data, stored.size());
    to_float(stored.data(), weight.dtype, values);
    return values;
}

Vector store(std::span<const float> values, Backend& backend, WeightStorage& storage) {
    void* memory = storage.allocate(values.size_bytes());
    backend.copy_to_device(memory, values.data(), values.size_bytes());
    return {static_cast<const float*>(memory), static_cast<std::int64_t>(values.size())};
}

}  // namespace lrengine
