// From checkpoint records to the weights a backend computes with: shape checks, type conversion, quantisation.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint.h"
#include "core/int4_groups.h"
#include "core/tensor.h"
#include "core/thread_pool.h"
#include "core/weight_search.h"
#include "core/weight_storage.h"

namespace lrengine {

class Backend;

// `target` is the element type matrices are computed from: nullopt keeps the stored one. A matrix whose stored type is
// the target stays in the mapping on a CPU backend (no copy); any other is converted into `storage`. Vectors become
// float32. kInt8 target: symmetric per row, scale = max|row| / 127, round to nearest even, as `lrengine quantize`
// writes it (`NAME` int8 [N, K] with `NAME_scale` float32 [N]). kInt4 target: in groups (`NAME` uint8 [N, K / 2] with
// `NAME_scale` bfloat16 [N, K / group size], int4_groups.h), int8 what a directory of int4 has in int8: embeddings,
// output projections and matrices whose columns are not whole blocks. Throws Error(kModelFile) for a missing tensor, a
// wrong shape or type, and for NaN or Inf in what is converted or copied; what stays in the mapping is left to
// `search`. The same name asked twice gives the same memory.
class WeightLoader {
public:
    // `search` is filled, not begun. `group_size`: of the int4 matrices in the checkpoint, and of those that become
    // int4.
    WeightLoader(const Checkpoint& checkpoint, Backend& backend, WeightStorage& storage, WeightSearch& search,
                 std::optional<DType> target, std::int64_t group_size = kInt4GroupSize);

    bool has(const std::string& name) const;

    Weight matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
    // A matrix of which a request looks up a few rows. Where it stays in the mapping, the rest does not count as memory
    // of this process once it was searched, unless matrix() is asked for it too: an output projection is read whole.
    Weight embeddings(const std::string& name, std::int64_t rows, std::int64_t cols);
    // Never quantised: position tables, relative bias tables.
    Weight table(const std::string& name, std::int64_t rows, std::int64_t cols);
    // All elements of a tensor of any shape whose product is `size`.
    Vector vector(const std::string& name, std::int64_t size);
    // All elements, row after row, of a tensor [rows, cols] and no other shape.
    Vector rows_of(const std::string& name, std::int64_t rows, std::int64_t cols);
    // Absent tensor: a null Vector.
    Vector optional_vector(const std::string& name, std::int64_t size);

    // A name that may be in the file but is not needed (an alias, a buffer).
    void ignore(const std::string& name);
    // Throws Error(kModelFile) listing tensors that nobody asked for: the file is of another model than the config
    // says.
    void check_all_used() const;

private:
    const TensorRecord& require(const std::string& name);
    const TensorRecord& require_matrix(const std::string& name, std::int64_t rows, std::int64_t cols);
    // The same, or int4.
    const TensorRecord& require_product(const std::string& name, std::int64_t rows, std::int64_t cols);
    ThreadPool& pool();
    void check_values(const TensorRecord& record);
    bool usable_in_place(const TensorRecord& record) const;

    // Backend memory with the stored bytes: the mapping itself where that can be.
    const void* place(const TensorRecord& record);
    // New backend memory that `fill` writes, through host memory where the backend has its own.
    template <typename Fill>
    const void* produce(std::size_t bytes, Fill&& fill);
    // Calls body(row, values) for every row as checked float32, on several threads.
    template <typename Body>
    void for_float_rows(const TensorRecord& record, const Body& body);

    std::vector<float> row_scales(const TensorRecord& matrix);
    const TensorRecord& group_scales(const TensorRecord& matrix);
    template <typename T>
    const T* place_scales(const std::vector<T>& scales);
    const void* convert(const TensorRecord& record, DType dtype);
    Weight quantize(const TensorRecord& record);
    Weight quantize_int4(const TensorRecord& record);
    Weight place_stored(const TensorRecord& record);
    Weight load(const TensorRecord& record, std::optional<DType> target);

    const Checkpoint& checkpoint_;
    Backend& backend_;
    WeightStorage& storage_;
    WeightSearch& search_;
    std::optional<DType> target_;
    std::int64_t group_size_;
    std::set<std::string> used_;
    std::optional<ThreadPool> pool_;  // once something is converted or copied
};

}  // namespace lrengine
