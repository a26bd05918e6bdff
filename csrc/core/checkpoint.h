// A directory of safetensors files (one, or sharded through an index), memory-mapped and checked before anything is
// read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace lrengine {

struct TensorRecord {
    std::string name;
    std::string file;  // for messages
    DType dtype = DType::kFloat32;
    std::vector<std::int64_t> shape;
    const void* data = nullptr;  // inside the mapping
    std::size_t bytes = 0;
};

// Opens `model.safetensors`, or `model.safetensors.index.json` with its shards. Throws Error(kModelFile) naming the
// file, the tensor, what was found and what was expected. Files must not change while mapped.
class Checkpoint {
public:
    static Checkpoint open(const std::filesystem::path& directory);
    Checkpoint(Checkpoint&&) noexcept;
    Checkpoint& operator=(Checkpoint&&) noexcept;
    ~Checkpoint();

    const TensorRecord* find(const std::string& name) const;  // null when absent
    std::vector<std::string> names() const;                   // sorted

    std::size_t mapped_bytes() const;

private:
    struct State;
    explicit Checkpoint(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace lrengine
