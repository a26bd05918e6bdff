#include "core/weight_loader.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/weight_convert.h"
#include "ops/backend.h"

namespace lrengine {

namespace {

constexpr std::int64_t kGrain = std::int64_t{1} << 16;  // elements a thread takes at least
constexpr std::int64_t kReleasedBlock = std::int64_t{8} << 20;
constexpr int kMostThreads = 8;  // reading memory does not get faster with more

// One for every piece of work, at most those this process may run on: not all of the machine's in a container.
int loading_threads(std::size_t bytes) {
    cpu_set_t set;
    CPU_ZERO(&set);
    const int processors = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    const std::size_t pieces = bytes / (static_cast<std::size_t>(kGrain) * sizeof(float));
    return static_cast<int>(std::clamp<std::size_t>(pieces, 1, std::clamp(processors, 1, kMostThreads)));
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
    std::string text = "[";
    for (const std::int64_t dimension : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
    return text + "]";
}

std::int64_t elements_of(const TensorRecord& record) {
    return static_cast<std::int64_t>(record.bytes / size_of(record.dtype));
}

[[noreturn]] void refuse(const TensorRecord& record, const std::string& found, const std::string& expected) {
    fail(ErrorCode::kModelFile, record.file + ": " + record.name + ": found " + found + ", expected " + expected);
}

void require_float(const TensorRecord& record, const std::string& expected = "float32, bfloat16 or float16") {
    if (!is_weight_float(record.dtype)) refuse(record, std::string(name_of(record.dtype)), expected);
}

// Of a matrix of any type.
std::int64_t columns_of(const TensorRecord& record) {
    return record.dtype == DType::kUInt8 ? 2 * record.shape[1] : record.shape[1];
}

DType stored_type(const TensorRecord& record) { return record.dtype == DType::kUInt8 ? DType::kInt4 : record.dtype; }

// What stays int8 where the rest is int4. Its error is that of the logits, or of every token: docs/MODEL_DIRECTORY.md.
bool stays_int8(const TensorRecord& record) {
    constexpr std::string_view kNames[] = {"word_embeddings.weight", "shared.weight", "embed_tokens.weight",
                                           "lm_head.weight"};
    const bool named = std::any_of(std::begin(kNames), std::end(kNames),
                                   [&](std::string_view name) { return record.name.ends_with(name); });
    return named || columns_of(record) % kInt4Block != 0;
}

// Rows of bfloat16 scales, copied: a tensor in a file is not aligned.
class GroupScales {
public:
    GroupScales() = default;
    explicit GroupScales(const TensorRecord& record)
        : groups_(record.shape[1]), values_(record.bytes / sizeof(std::uint16_t)) {
        std::memcpy(values_.data(), record.data, record.bytes);
    }
    const std::uint16_t* of_row(std::int64_t row) const { return values_.data() + row * groups_; }

private:
    std::int64_t groups_ = 0;
    std::vector<std::uint16_t> values_;
};

void forget(const TensorRecord& record) {
    MappedFile::release({static_cast<const std::byte*>(record.data), record.bytes});
}

}  // namespace

WeightLoader::WeightLoader(const Checkpoint& checkpoint, Backend& backend, WeightStorage& storage, WeightSearch& search,
                           std::optional<DType> target, std::int64_t group_size)
    : checkpoint_(checkpoint),
      backend_(backend),
      storage_(storage),
      search_(search),
      target_(target),
      group_size_(group_size) {
    if (target && !is_weight_float(*target) && *target != DType::kInt8 && *target != DType::kInt4) {
        fail(ErrorCode::kInvalidArgument, "dtype: found \"" + std::string(name_of(*target)) +
                                              "\", expected float32, bfloat16, float16, int8 or int4");
    }
    if (!is_group_size(group_size)) fail(ErrorCode::kInternal, "int4: group size " + std::to_string(group_size));
}

bool WeightLoader::has(const std::string& name) const { return checkpoint_.find(name) != nullptr; }

const TensorRecord& WeightLoader::require(const std::string& name) {
    const TensorRecord* record = checkpoint_.find(name);
    if (record == nullptr) {
        const std::vector<std::string> names = checkpoint_.names();
        fail(ErrorCode::kModelFile, checkpoint_.find(names.front())->file + ": found no tensor " + name +
                                        ", expected it from what config.json says");
    }
    used_.insert(name);
    return *record;
}

const TensorRecord& WeightLoader::require_matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const TensorRecord& record = require(name);
    const std::vector<std::int64_t> expected{rows, cols};
    if (record.shape != expected) refuse(record, "shape " + shape_text(record.shape), shape_text(expected));
    return record;
}

const TensorRecord& WeightLoader::require_product(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const TensorRecord* record = checkpoint_.find(name);
    if (record == nullptr || record->dtype != DType::kUInt8) {
        const TensorRecord& matrix = require_matrix(name, rows, cols);
        if (matrix.dtype != DType::kInt8) require_float(matrix, "float32, bfloat16, float16, int8 or int4");
        return matrix;
    }
    if (cols % kInt4Block != 0) refuse(*record, "int4", "another type, as its columns are not whole blocks of 32");
    return require_matrix(name, rows, cols / 2);
}

ThreadPool& WeightLoader::pool() {
    if (!pool_) pool_.emplace(loading_threads(checkpoint_.mapped_bytes()));
    return *pool_;
}

void WeightLoader::check_values(const TensorRecord& record) {
    pool().run(elements_of(record), kGrain, [&](std::int64_t begin, std::int64_t end) {
        const char* data =
            static_cast<const char*>(record.data) + static_cast<std::size_t>(begin) * size_of(record.dtype);
        if (!values_are_sound(data, record.dtype, end - begin)) refuse_values(record);
    });
}

bool WeightLoader::usable_in_place(const TensorRecord& record) const {
    // The format does not promise that a tensor begins at a multiple of its element size.
    return backend_.shares_host_memory() && reinterpret_cast<std::uintptr_t>(record.data) % size_of(record.dtype) == 0;
}

const void* WeightLoader::place(const TensorRecord& record) {
    if (usable_in_place(record)) {
        search_.add(record);
        return record.data;
    }
    check_values(record);
    void* memory = storage_.allocate(record.bytes);
    backend_.copy_to_device(memory, record.data, record.bytes);
    forget(record);
    return memory;
}

template <typename Fill>
const void* WeightLoader::produce(std::size_t bytes, Fill&& fill) {
    void* memory = storage_.allocate(bytes);
    if (backend_.shares_host_memory()) {
        fill(memory);
    } else {
        std::vector<std::byte> host(bytes);
        fill(host.data());
        backend_.copy_to_device(memory, host.data(), bytes);
    }
    return memory;
}

std::vector<float> WeightLoader::row_scales(const TensorRecord& matrix) {
    const TensorRecord& record = require(matrix.name + "_scale");
    require_float(record);
    if (record.shape != std::vector<std::int64_t>{matrix.shape[0]}) {
        refuse(record, "shape " + shape_text(record.shape), "[" + std::to_string(matrix.shape[0]) + "]");
    }
    check_values(record);
    std::vector<float> scales(static_cast<std::size_t>(matrix.shape[0]));
    to_float(record.data, record.dtype, scales);
    forget(record);
    for (const float scale : scales) {
        if (scale < 0.0f) refuse(record, "scale " + std::to_string(scale), "scales of 0 or more");
    }
    return scales;
}

// Checked. Negative ones are as good as others.
const TensorRecord& WeightLoader::group_scales(const TensorRecord& matrix) {
    const std::vector<std::int64_t> expected{matrix.shape[0], (columns_of(matrix) + group_size_ - 1) / group_size_};
    const TensorRecord& record = require_matrix(matrix.name + "_scale", expected[0], expected[1]);
    if (record.dtype != DType::kBFloat16) refuse(record, std::string(name_of(record.dtype)), "bfloat16");
    check_values(record);
    const auto* bytes = static_cast<const std::byte*>(record.data);
    for (std::int64_t i = 0; i < elements_of(record); ++i, bytes += sizeof(std::uint16_t)) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, bytes, sizeof bits);
        if ((bits & 0x7fffu) > kLargestGroupScale) {
            refuse(record, "scale " + std::to_string(bfloat16_to_float(bits)), "scales below 2^112");
        }
    }
    return record;
}

template <typename T>
const T* WeightLoader::place_scales(const std::vector<T>& scales) {
    const std::size_t bytes = scales.size() * sizeof(T);
    return static_cast<const T*>(produce(bytes, [&](void* memory) { std::memcpy(memory, scales.data(), bytes); }));
}

template <typename Body>
void WeightLoader::for_float_rows(const TensorRecord& record, const Body& body) {
    const std::int64_t rows = record.shape[0], cols = columns_of(record);
    const bool quantized = record.dtype == DType::kInt8, packed = record.dtype == DType::kUInt8;
    const std::vector<float> scales = quantized ? row_scales(record) : std::vector<float>();
    const GroupScales groups = packed ? GroupScales(group_scales(record)) : GroupScales();
    const std::size_t row_bytes = static_cast<std::size_t>(record.shape[1]) * size_of(record.dtype);
    const auto* stored = static_cast<const std::byte*>(record.data);
    const auto run_rows = [&](std::int64_t begin, std::int64_t end, std::span<float> values) {
        for (std::int64_t row = begin; row < end; ++row) {
            const std::byte* source = stored + static_cast<std::size_t>(row) * row_bytes;
            if (!values_are_sound(source, record.dtype, record.shape[1])) refuse_values(record);
            if (packed) {
                dequantize_groups(reinterpret_cast<const std::uint8_t*>(source), groups.of_row(row), group_size_,
                                  values);
            } else if (quantized) {
                const float scale = scales[static_cast<std::size_t>(row)];
                dequantize_row(reinterpret_cast<const std::int8_t*>(source), scale, values);
            } else {
                to_float(source, record.dtype, values);
            }
            body(row, std::span<const float>(values));
        }
    };
    pool().run(rows, std::max<std::int64_t>(1, kGrain / cols), [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> values(static_cast<std::size_t>(cols));
        // Block by block, so that the stored weights and what becomes of them are never both in memory.
        const std::int64_t block = std::max<std::int64_t>(1, kReleasedBlock / static_cast<std::int64_t>(row_bytes));
        for (std::int64_t row = begin; row < end; row += block) {
            const std::int64_t last = std::min(row + block, end);
            run_rows(row, last, values);
            MappedFile::release({stored + static_cast<std::size_t>(row) * row_bytes,
                                 stored + static_cast<std::size_t>(last) * row_bytes});
        }
    });
}

const void* WeightLoader::convert(const TensorRecord& record, DType dtype) {
    const std::int64_t cols = columns_of(record);
    const std::size_t row_bytes = static_cast<std::size_t>(cols) * size_of(dtype);
    return produce(static_cast<std::size_t>(record.shape[0]) * row_bytes, [&](void* memory) {
        for_float_rows(record, [&](std::int64_t row, std::span<const float> values) {
            char* destination = static_cast<char*>(memory) + static_cast<std::size_t>(row) * row_bytes;
            from_float(values, dtype, destination);
            if (!values_are_sound(destination, dtype, cols)) {
                refuse(record, "a value too large for " + std::string(name_of(dtype)), "values that fit");
            }
        });
    });
}

Weight WeightLoader::quantize(const TensorRecord& record) {
    const std::int64_t rows = record.shape[0], cols = columns_of(record);
    std::vector<float> scales(static_cast<std::size_t>(rows));
    Weight weight{.dtype = DType::kInt8, .rows = rows, .cols = cols};
    weight.data = produce(static_cast<std::size_t>(rows * cols), [&](void* memory) {
        for_float_rows(record, [&](std::int64_t row, std::span<const float> values) {
            scales[static_cast<std::size_t>(row)] =
                quantize_row(values, static_cast<std::int8_t*>(memory) + row * cols);
        });
    });
    weight.scales = place_scales(scales);
    return weight;
}

Weight WeightLoader::quantize_int4(const TensorRecord& record) {
    Weight weight{
        .dtype = DType::kInt4, .rows = record.shape[0], .cols = columns_of(record), .group_size = group_size_};
    std::vector<std::uint16_t> scales(static_cast<std::size_t>(weight.rows * weight.groups()));
    weight.data = produce(static_cast<std::size_t>(weight.rows * weight.row_bytes()), [&](void* memory) {
        for_float_rows(record, [&](std::int64_t row, std::span<const float> values) {
            quantize_groups(values, group_size_, static_cast<std::uint8_t*>(memory) + row * weight.row_bytes(),
                            scales.data() + row * weight.groups());
        });
    });
    weight.group_scales = place_scales(scales);
    return weight;
}

Weight WeightLoader::place_stored(const TensorRecord& record) {
    Weight weight{.dtype = stored_type(record), .rows = record.shape[0], .cols = columns_of(record)};
    if (weight.dtype == DType::kInt8) weight.scales = place_scales(row_scales(record));
    if (weight.dtype == DType::kInt4) {
        weight.group_scales = static_cast<const std::uint16_t*>(place(group_scales(record)));
        weight.group_size = group_size_;
    }
    weight.data = place(record);
    return weight;
}

Weight WeightLoader::load(const TensorRecord& record, std::optional<DType> target) {
    const DType stored = stored_type(record);
    DType dtype = target.value_or(stored);
    if (dtype == DType::kInt4 && stored != DType::kInt4 && stays_int8(record)) dtype = DType::kInt8;
    if (dtype == stored) return place_stored(record);
    Weight weight{.dtype = dtype, .rows = record.shape[0], .cols = columns_of(record)};
    if (dtype == DType::kInt4) {
        weight = quantize_int4(record);
    } else if (dtype == DType::kInt8) {
        weight = quantize(record);
    } else {
        weight.data = convert(record, dtype);
    }
    forget(record);
    return weight;
}

Weight WeightLoader::matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const TensorRecord& record = require_product(name, rows, cols);
    search_.keep(record);  // which embeddings() may have been asked for before
    const auto known = storage_.matrices.find(name);
    if (known != storage_.matrices.end()) {
        if (!is_weight_float(record.dtype)) used_.insert(name + "_scale");
        return known->second;
    }
    return storage_.matrices[name] = load(record, target_);
}

Weight WeightLoader::embeddings(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const bool asked_before = storage_.matrices.contains(name);
    const Weight weight = matrix(name, rows, cols);
    if (!asked_before) search_.release(require(name));
    return weight;
}

Weight WeightLoader::table(const std::string& name, std::int64_t rows, std::int64_t cols) {
    const TensorRecord& record = require_matrix(name, rows, cols);
    require_float(record);
    const std::string key = name + " (table)";
    const auto known = storage_.matrices.find(key);
    if (known != storage_.matrices.end()) return known->second;
    return storage_.matrices[key] = load(record, target_ && is_weight_float(*target_) ? target_ : std::nullopt);
}

Vector WeightLoader::vector(const std::string& name, std::int64_t size) {
    const TensorRecord& record = require(name);
    require_float(record);
    if (elements_of(record) != size) {
        refuse(record, "shape " + shape_text(record.shape), std::to_string(size) + " elements");
    }
    const auto known = storage_.vectors.find(name);
    if (known != storage_.vectors.end()) return known->second;
    Vector vector{.size = size};
    if (record.dtype == DType::kFloat32) {
        vector.data = static_cast<const float*>(place(record));
    } else {
        check_values(record);
        vector.data =
            static_cast<const float*>(produce(static_cast<std::size_t>(size) * sizeof(float), [&](void* memory) {
                to_float(record.data, record.dtype, {static_cast<float*>(memory), static_cast<std::size_t>(size)});
            }));
        forget(record);
    }
    return storage_.vectors[name] = vector;
}

Vector WeightLoader::rows_of(const std::string& name, std::int64_t rows, std::int64_t cols) {
    require_matrix(name, rows, cols);
    return vector(name, rows * cols);
}

Vector WeightLoader::optional_vector(const std::string& name, std::int64_t size) {
    return has(name) ? vector(name, size) : Vector{};
}

void WeightLoader::ignore(const std::string& name) {
    used_.insert(name);
    used_.insert(name + "_scale");
}

void WeightLoader::check_all_used() const {
    constexpr std::size_t kShown = 8;
    std::vector<std::string> unused;
    for (std::string& name : checkpoint_.names()) {
        if (!used_.contains(name)) unused.push_back(std::move(name));
    }
    if (unused.empty()) return;
    std::string shown;
    for (std::size_t i = 0; i < std::min(kShown, unused.size()); ++i) shown += (i == 0 ? "" : ", ") + unused[i];
    if (unused.size() > kShown) shown += ", ...";
    fail(ErrorCode::kModelFile, checkpoint_.find(unused.front())->file + ": found " + std::to_string(unused.size()) +
                                    " tensors that the model of config.json does not have (" + shown +
                                    "), expected none");
}

}  // namespace lrengine
