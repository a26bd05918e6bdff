// Memory of weights that are not used straight from the mapped file: converted, quantised, folded or uploaded ones.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace lrengine {

class Backend;

// Owned by the Engine; lives as long as the model. Freed through the backend.
class WeightStorage {
public:
    explicit WeightStorage(Backend& backend) : backend_(backend) {}
    ~WeightStorage();
    WeightStorage(const WeightStorage&) = delete;
    WeightStorage& operator=(const WeightStorage&) = delete;

    // Backend memory, 64-byte aligned; Error(kOutOfMemory) when there is none.
    void* allocate(std::size_t bytes);
    std::size_t bytes() const { return bytes_; }

    std::map<std::string, Weight> matrices;  // what a name became, so that a tied weight is stored once
    std::map<std::string, Vector> vectors;

private:
    Backend& backend_;
    std::vector<void*> blocks_;
    std::size_t bytes_ = 0;
};

}  // namespace lrengine
