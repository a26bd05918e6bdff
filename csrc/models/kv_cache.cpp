#include "models/kv_cache.h"

namespace lrengine {

KvCache::KvCache(const Workspace& work, std::int64_t layers, std::int64_t rows, std::int64_t width) {
    for (std::int64_t i = 0; i < layers; ++i) {
        keys_.push_back(work.matrix(rows, width));
        values_.push_back(work.matrix(rows, width));
    }
}

void KvCache::describe(std::vector<std::uint64_t>& words) const {
    for (const auto* matrices : {&keys_, &values_}) {
        for (const Matrix& matrix : *matrices) {
            words.push_back(reinterpret_cast<std::uintptr_t>(matrix.data));
            words.push_back(static_cast<std::uint64_t>(matrix.rows));
        }
    }
}

KvCache KvCache::slice(std::int64_t first, std::int64_t count) const {
    KvCache part;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
        part.keys_.push_back(keys_[i].slice(first, count));
        part.values_.push_back(values_[i].slice(first, count));
    }
    return part;
}

}  // namespace lrengine
