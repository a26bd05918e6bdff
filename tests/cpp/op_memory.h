// Inputs and outputs of ops, in the memory of the backend under test: poisoned, fenced and no better aligned than they
// happen to be.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "core/int4_groups.h"
#include "op_devices.h"

namespace op_testing {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class Random {
public:
    explicit Random(unsigned seed) : engine_(seed) {}
    float uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(engine_); }
    std::int64_t integer(std::int64_t low, std::int64_t high) {  // both included
        return std::uniform_int_distribution<std::int64_t>(low, high)(engine_);
    }
    std::vector<float> floats(std::int64_t count, float low = -1.0f, float high = 1.0f) {
        std::vector<float> values(static_cast<std::size_t>(count));
        for (float& value : values) value = uniform(low, high);
        return values;
    }

private:
    std::mt19937 engine_;
};

// Bytes whose end is the end of a page, before one that must not be touched: reading or writing too far is a crash, and
// the beginning is aligned only as far as the size happens to make it.
class FencedBytes {
public:
    explicit FencedBytes(std::size_t bytes) {
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        const std::size_t whole = (bytes + page - 1) / page * page;
        total_ = whole + page;
        base_ = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base_ == MAP_FAILED) throw std::bad_alloc();
        mprotect(static_cast<char*>(base_) + whole, page, PROT_NONE);
        data_ = static_cast<char*>(base_) + whole - bytes;
    }
    ~FencedBytes() {
        if (base_ != nullptr) munmap(base_, total_);
    }
    FencedBytes(FencedBytes&& other) noexcept : base_(other.base_), total_(other.total_), data_(other.data_) {
        other.base_ = nullptr;
    }
    FencedBytes(const FencedBytes&) = delete;
    FencedBytes& operator=(const FencedBytes&) = delete;

    template <typename T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

private:
    void* base_;
    std::size_t total_;
    char* data_;
};

// Fenced host memory and, where the backend has memory of its own, a copy there, fenced and misaligned alike. The copy
// is made when an op first gets it; from then on what the test writes goes to both, and what it reads comes from there.
class TestMemory {
public:
    explicit TestMemory(std::size_t bytes) : host_(bytes), bytes_(bytes) {}
    ~TestMemory() {
        if (allocation_ != nullptr) cuda_backend().deallocate(allocation_);
    }
    TestMemory(TestMemory&& other) noexcept
        : host_(std::move(other.host_)), bytes_(other.bytes_), allocation_(other.allocation_), copy_(other.copy_) {
        other.allocation_ = nullptr;
    }
    TestMemory(const TestMemory&) = delete;
    TestMemory& operator=(const TestMemory&) = delete;

    void* for_backend() const {
        if (!on_cuda()) return host_.as<void>();
        if (allocation_ == nullptr) {
            // As on the host, the end of the data is that of the memory: the backend hands out multiples of 4 KiB.
            const std::size_t whole = (bytes_ + 4095) / 4096 * 4096;
            allocation_ = cuda_backend().allocate(whole);
            copy_ = static_cast<char*>(allocation_) + whole - bytes_;
            cuda_backend().copy_to_device(copy_, host_.as<void>(), bytes_);
        }
        read_at_ = kNever;  // an op may write to it now
        return copy_;
    }

    template <typename T>
    T get(std::int64_t index) const {
        if (allocation_ != nullptr && read_at_ != backend_calls()) {
            cuda_backend().copy_to_host(host_.as<void>(), copy_, bytes_);
            read_at_ = backend_calls();
        }
        return host_.as<T>()[index];
    }

    template <typename T>
    void set(std::int64_t index, T value) const {
        get<T>(index);
        host_.as<T>()[index] = value;
        if (allocation_ != nullptr) {
            cuda_backend().copy_to_device(copy_ + static_cast<std::size_t>(index) * sizeof(T), &value, sizeof(T));
        }
    }

    // One element as a number of this type.
    float get_float(DType type, std::int64_t index) const {
        if (type == DType::kBFloat16) return bfloat16_to_float(get<std::uint16_t>(index));
        return type == DType::kFloat16 ? float16_to_float(get<std::uint16_t>(index)) : get<float>(index);
    }
    void set_float(DType type, std::int64_t index, float value) const {
        if (type == DType::kBFloat16) return set(index, float_to_bfloat16(value));
        if (type == DType::kFloat16) return set(index, float_to_float16(value));
        set(index, value);
    }

private:
    static constexpr std::int64_t kNever = -1;

    FencedBytes host_;
    std::size_t bytes_;
    mutable void* allocation_ = nullptr;
    mutable char* copy_ = nullptr;
    mutable std::int64_t read_at_ = kNever;  // backend_calls() then
};

// A strided matrix full of NaN. Rows are `gap` elements apart.
class TestMatrix {
public:
    TestMatrix(std::int64_t rows, std::int64_t cols, std::int64_t gap = 3, DType dtype = activation_type())
        : rows_(rows),
          cols_(cols),
          stride_(cols + gap),
          dtype_(dtype),
          memory_(static_cast<std::size_t>(elements()) * size_of(dtype)) {
        for (std::int64_t i = 0; i < elements(); ++i) memory_.set_float(dtype_, i, kNan);
    }
    TestMatrix(std::int64_t rows, std::int64_t cols, Random& random, std::int64_t gap = 3,
               DType dtype = activation_type())
        : TestMatrix(rows, cols, gap, dtype) {
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < cols; ++c) set(r, c, random.uniform(-1.0f, 1.0f));
        }
    }

    float at(std::int64_t r, std::int64_t c) const { return memory_.get_float(dtype_, r * stride_ + c); }
    // Rounded to the matrix's type.
    void set(std::int64_t r, std::int64_t c, float value) const { memory_.set_float(dtype_, r * stride_ + c, value); }
    void copy_from(const TestMatrix& other) const {
        for (std::int64_t r = 0; r < rows_; ++r) {
            for (std::int64_t c = 0; c < cols_; ++c) set(r, c, other.at(r, c));
        }
    }
    Matrix view() const { return {memory_.for_backend(), dtype_, rows_, cols_, stride_}; }
    std::int64_t rows() const { return rows_; }
    std::int64_t cols() const { return cols_; }
    DType dtype() const { return dtype_; }

    // Every element was written, nothing between the rows was.
    bool is_written_exactly() const {
        for (std::int64_t i = 0; i < elements(); ++i) {
            if (std::isnan(memory_.get_float(dtype_, i)) == (i % stride_ < cols_)) return false;
        }
        return true;
    }

private:
    // The last row has no gap behind it, so that the fence stands right after the last element.
    std::int64_t elements() const { return rows_ == 0 ? 0 : (rows_ - 1) * stride_ + cols_; }

    std::int64_t rows_, cols_, stride_;
    DType dtype_;
    TestMemory memory_;
};

// Numbers that are no matrix: ids, offsets, float32 vectors; as inputs or as outputs.
template <typename T>
class TestArray {
public:
    TestArray(std::initializer_list<T> values) : TestArray(std::vector<T>(values)) {}
    explicit TestArray(const std::vector<T>& values) : size_(values.size()), memory_(values.size() * sizeof(T)) {
        for (std::size_t i = 0; i < size_; ++i) memory_.set(static_cast<std::int64_t>(i), values[i]);
    }
    static TestArray filled(std::int64_t size, T value) {
        return TestArray(std::vector<T>(static_cast<std::size_t>(size), value));
    }

    T operator[](std::int64_t index) const { return memory_.template get<T>(index); }
    void set(std::int64_t index, T value) const { memory_.set(index, value); }
    std::int64_t size() const { return static_cast<std::int64_t>(size_); }
    T* data() const { return static_cast<T*>(memory_.for_backend()); }
    Vector view() const
        requires std::is_same_v<T, float>
    {
        return {data(), size()};
    }

private:
    std::size_t size_;
    TestMemory memory_;
};

using TestIds = TestArray<std::int32_t>;
using TestVector = TestArray<float>;

// The fewest columns from `cols` on that a weight of this type can have.
inline std::int64_t whole_columns(DType dtype, std::int64_t cols) {
    return dtype == DType::kInt4 ? (cols + kInt4Block - 1) / kInt4Block * kInt4Block : cols;
}

// A random weight of any type, and the numbers it stands for. int4: in groups of any size, with scales of both signs.
class TestWeight {
public:
    TestWeight(DType dtype, std::int64_t rows, std::int64_t cols, Random& random)
        : weight_{.dtype = dtype, .rows = rows, .cols = cols},
          memory_(static_cast<std::size_t>(rows * weight_.row_bytes())),
          scales_(random.floats(dtype == DType::kInt8 ? rows : 0, 0.001f, 0.02f)),
          group_scales_(random_group_scales(random)) {
        if (dtype == DType::kInt4) {
            for (std::int64_t i = 0; i < rows * cols / 2; ++i) {
                memory_.set(i, static_cast<std::uint8_t>(random.integer(0, 255)));
            }
            return;
        }
        for (std::int64_t i = 0; i < rows * cols; ++i) {
            const float value = random.uniform(-1.0f, 1.0f);
            if (dtype == DType::kInt8) {
                memory_.set(i, static_cast<std::int8_t>(std::lround(value * 127)));
            } else {
                memory_.set_float(dtype, i, value);
            }
        }
    }

    double at(std::int64_t r, std::int64_t c) const {
        const std::int64_t index = r * weight_.cols + c;
        if (weight_.dtype == DType::kInt4) return int4_at(r, c);
        if (weight_.dtype == DType::kInt8) return static_cast<double>(memory_.get<std::int8_t>(index)) * scales_[r];
        return memory_.get_float(weight_.dtype, index);
    }
    Weight view() const {
        Weight view = weight_;
        view.data = memory_.for_backend();
        if (view.dtype == DType::kInt8) view.scales = scales_.data();
        if (view.dtype == DType::kInt4) view.group_scales = group_scales_.data();
        return view;
    }

private:
    std::vector<std::uint16_t> random_group_scales(Random& random) {
        if (weight_.dtype != DType::kInt4) return {};
        weight_.group_size = std::int64_t{32} << random.integer(0, 2);
        std::vector<std::uint16_t> scales;
        for (std::int64_t i = 0; i < weight_.rows * weight_.groups(); ++i) {
            scales.push_back(float_to_bfloat16(random.uniform(0.01f, 0.2f) * (random.integer(0, 1) == 0 ? 1 : -1)));
        }
        return scales;
    }

    double int4_at(std::int64_t r, std::int64_t c) const {
        const std::int64_t byte = c / 32 * 16 + c % 16;
        const unsigned pair = memory_.get<std::uint8_t>(r * weight_.row_bytes() + byte);
        const float scale = bfloat16_to_float(group_scales_[r * weight_.groups() + c / weight_.group_size]);
        return (static_cast<double>(c % 32 < 16 ? pair & 15u : pair >> 4) - 8) * scale;
    }

    Weight weight_;
    TestMemory memory_;
    TestVector scales_;
    TestArray<std::uint16_t> group_scales_;
};

constexpr DType kWeightTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kInt8, DType::kInt4};

// Sequences of these lengths.
class TestPacking {
public:
    explicit TestPacking(const std::vector<std::int64_t>& lengths) : host_(offsets_of(lengths)), offsets_(host_) {}
    Packing view() const { return {host_.data(), offsets_.data(), static_cast<std::int64_t>(host_.size()) - 1}; }

private:
    static std::vector<std::int32_t> offsets_of(const std::vector<std::int64_t>& lengths) {
        std::vector<std::int32_t> offsets{0};
        for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + static_cast<std::int32_t>(length));
        return offsets;
    }

    std::vector<std::int32_t> host_;
    TestIds offsets_;
};

}  // namespace op_testing
