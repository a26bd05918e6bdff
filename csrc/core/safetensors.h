// One safetensors file: 8 bytes N (little endian), N bytes of JSON, then the tensors' bytes without gaps.
//     {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "text"}}
// Offsets count from the end of the JSON.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint.h"

namespace lrengine {

// The tensors of `file`, in the order of their bytes; `data` points into it. `path` is for messages. Trusts nothing:
// throws Error(kModelFile) unless every byte after the header belongs to exactly one tensor whose shape and type say
// so. Stricter than the format where a weight never needs more: no empty tensors, at most 8 dimensions.
std::vector<TensorRecord> read_safetensors(std::span<const std::byte> file, const std::string& path);

}  // namespace lrengine
