// What the op tests share: random numbers, poisoned and fenced memory, backends to compare, plain float64 arithmetic.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "harness.h"
#include "ops/backend.h"

namespace op_testing {

using namespace lrengine;

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

// A strided matrix full of NaN in fenced memory. Rows are `gap` elements apart.
class TestMatrix {
public:
    TestMatrix(std::int64_t rows, std::int64_t cols, std::int64_t gap = 3)
        : rows_(rows), cols_(cols), stride_(cols + gap), memory_(bytes(rows, cols, gap)) {
        for (std::int64_t i = 0; i < elements(); ++i) memory_.as<float>()[i] = kNan;
    }
    TestMatrix(std::int64_t rows, std::int64_t cols, Random& random, std::int64_t gap = 3)
        : TestMatrix(rows, cols, gap) {
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < cols; ++c) at(r, c) = random.uniform(-1.0f, 1.0f);
        }
    }

    float& at(std::int64_t r, std::int64_t c) const { return memory_.as<float>()[r * stride_ + c]; }
    Matrix view() const { return {memory_.as<float>(), DType::kFloat32, rows_, cols_, stride_}; }
    std::int64_t rows() const { return rows_; }
    std::int64_t cols() const { return cols_; }

    // Every element was written, nothing between the rows was.
    bool is_written_exactly() const {
        for (std::int64_t i = 0; i < elements(); ++i) {
            if (std::isnan(memory_.as<float>()[i]) == (i % stride_ < cols_)) return false;
        }
        return true;
    }

private:
    // The last row has no gap behind it, so that the fence stands right after the last element.
    static std::size_t bytes(std::int64_t rows, std::int64_t cols, std::int64_t gap) {
        return rows == 0 ? 0 : static_cast<std::size_t>(rows * (cols + gap) - gap) * sizeof(float);
    }
    std::int64_t elements() const { return rows_ == 0 ? 0 : (rows_ - 1) * stride_ + cols_; }

    std::int64_t rows_, cols_, stride_;
    FencedBytes memory_;
};

// A random weight of any type in fenced memory, and the numbers it stands for.
class TestWeight {
public:
    TestWeight(DType dtype, std::int64_t rows, std::int64_t cols, Random& random)
        : dtype_(dtype), rows_(rows), cols_(cols), memory_(static_cast<std::size_t>(rows * cols) * size_of(dtype)) {
        if (dtype == DType::kInt8) scales_ = random.floats(rows, 0.001f, 0.02f);
        for (std::int64_t i = 0; i < rows * cols; ++i) values_.push_back(put(i, random));
    }

    double at(std::int64_t r, std::int64_t c) const { return values_[static_cast<std::size_t>(r * cols_ + c)]; }
    Weight view() const {
        return {memory_.as<void>(), dtype_, rows_, cols_, dtype_ == DType::kInt8 ? scales_.data() : nullptr};
    }

private:
    double put(std::int64_t i, Random& random) {
        const float value = random.uniform(-1.0f, 1.0f);
        switch (dtype_) {
            case DType::kBFloat16:
                return bfloat16_to_float(memory_.as<std::uint16_t>()[i] = float_to_bfloat16(value));
            case DType::kFloat16:
                return float16_to_float(memory_.as<std::uint16_t>()[i] = float_to_float16(value));
            case DType::kInt8: {
                const auto level = static_cast<std::int8_t>(std::lround(value * 127));
                memory_.as<std::int8_t>()[i] = level;
                return static_cast<double>(level) * scales_[static_cast<std::size_t>(i / cols_)];
            }
            default:
                return memory_.as<float>()[i] = value;
        }
    }

    DType dtype_;
    std::int64_t rows_, cols_;
    FencedBytes memory_;
    std::vector<float> scales_;
    std::vector<double> values_;
};

constexpr DType kWeightTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kInt8};

// Sequences of these lengths.
class TestPacking {
public:
    explicit TestPacking(const std::vector<std::int64_t>& lengths) {
        for (const std::int64_t length : lengths)
            offsets_.push_back(offsets_.back() + static_cast<std::int32_t>(length));
    }
    Packing view() const { return {offsets_.data(), offsets_.data(), static_cast<std::int64_t>(offsets_.size()) - 1}; }

private:
    std::vector<std::int32_t> offsets_{0};
};

inline Vector vector_of(const std::vector<float>& values) {
    return {values.data(), static_cast<std::int64_t>(values.size())};
}

// The backend under test; LRENGINE_ISA chooses its kernels.
inline Backend& backend(int threads = 2) {
    static const std::unique_ptr<Backend> one = make_cpu_backend(1), two = make_cpu_backend(2),
                                          five = make_cpu_backend(5);
    return threads == 1 ? *one : threads == 2 ? *two : *five;
}

inline bool is_close(double found, double expected, double tolerance) {
    return std::abs(found - expected) <= tolerance * (1.0 + std::abs(expected));
}

// `expected(r, c)` is the float64 twin. Reports the first difference.
template <typename Expected>
void check_close(const TestMatrix& found, double tolerance, Expected expected) {
    CHECK(found.is_written_exactly());
    for (std::int64_t r = 0; r < found.rows(); ++r) {
        for (std::int64_t c = 0; c < found.cols(); ++c) {
            const double want = expected(r, c);
            if (is_close(found.at(r, c), want, tolerance)) continue;
            std::ostringstream text;
            text << "[" << r << ", " << c << "]: " << found.at(r, c) << ", expected " << want;
            harness::report(__FILE__, __LINE__, text.str());
            return;
        }
    }
}

inline bool same_bits(const float* a, const float* b, std::int64_t count) {
    return count == 0 || std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(float)) == 0;
}

inline bool same_bits(const TestMatrix& a, const TestMatrix& b) {
    for (std::int64_t r = 0; r < a.rows(); ++r) {
        if (!same_bits(&a.at(r, 0), &b.at(r, 0), a.cols())) return false;
    }
    return true;
}

inline double reference_activation(Activation activation, double x) {
    switch (activation) {
        case Activation::kRelu:
            return x > 0 ? x : 0;
        case Activation::kGelu:
            return x / 2 * std::erfc(-x / std::sqrt(2.0));
        case Activation::kGeluTanh:
            return x / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
        case Activation::kSilu:
            return x / (1 + std::exp(-x));
        case Activation::kTanh:
            return std::tanh(x);
        default:
            return x;
    }
}

constexpr Activation kActivations[] = {Activation::kNone,     Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh, Activation::kSilu, Activation::kTanh};

}  // namespace op_testing
