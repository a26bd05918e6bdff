// Keys and values of every decoder layer, in one arena.
#pragma once

#include <cstdint>
#include <vector>

#include "models/workspace.h"

namespace lrengine {

// Self-attention: rows = slots * capacity, position t of slot s in row s * capacity + t. Cross-attention: rows = the
// packed source rows. Copies are views of the same memory.
class KvCache {
public:
    KvCache() = default;
    // Takes 2 * layers matrices [rows, width] from the arena's current scope; contents undefined.
    KvCache(const Workspace& work, std::int64_t layers, std::int64_t rows, std::int64_t width);

    const Matrix& keys(std::size_t layer) const { return keys_[layer]; }
    const Matrix& values(std::size_t layer) const { return values_[layer]; }
    std::size_t layers() const { return keys_.size(); }
    // Appends where everything lies.
    void describe(std::vector<std::uint64_t>& words) const;

    // Rows [first, first + count) of every layer.
    KvCache slice(std::int64_t first, std::int64_t count) const;

private:
    std::vector<Matrix> keys_, values_;
};

}  // namespace lrengine
