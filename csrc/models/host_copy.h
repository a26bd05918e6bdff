// Small weights to and from host memory, for what is folded at load.
#pragma once

#include <span>
#include <vector>

#include "core/weight_storage.h"
#include "ops/backend.h"

namespace lrengine {

std::vector<float> read_back(const Vector& vector, Backend& backend);
// Row-major; float types only.
std::vector<float> read_back(const Weight& weight, Backend& backend);

// A float32 copy in backend memory that lives as long as the model.
Vector store(std::span<const float> values, Backend& backend, WeightStorage& storage);

}  // namespace lrengine
