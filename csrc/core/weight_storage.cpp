#include "core/weight_storage.h"

#include <algorithm>

#include "ops/backend.h"

namespace lrengine {

WeightStorage::~WeightStorage() {
    for (void* block : blocks_) backend_.deallocate(block);
}

void* WeightStorage::allocate(std::size_t bytes) {
    blocks_.reserve(blocks_.size() + 1);  // so that memory that was got cannot be lost
    blocks_.push_back(backend_.allocate(std::max<std::size_t>(bytes, 1)));
    bytes_ += bytes;
    return blocks_.back();
}

}  // namespace lrengine
