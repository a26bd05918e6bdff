// The integer products of an instruction set with exactly the memory that they ask for, each block of it before a page
// that must not be touched: a backend's scratch is larger than that, and one block.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "op_testing.h"
#include "ops/cpu_backend.h"

namespace op_testing {

inline const CpuKernels& kernels() {
    const std::string isa = cpu_isa();
#if defined(__x86_64__)
    if (isa == "avx2") return avx2_kernels();
    if (isa == "avx2_vnni") return avx2_vnni_kernels();
    if (isa == "avx512") return avx512_kernels();
    if (isa == "avx512_vnni") return avx512_vnni_kernels();
#elif defined(__aarch64__)
    if (isa == "neon") return neon_kernels();
#endif
    CHECK(isa == "portable");
    return portable_kernels();
}

// As many bytes as it has numbers, before the fence.
template <typename T>
class Fenced {
public:
    explicit Fenced(std::int64_t count) : count_(count), bytes_(static_cast<std::size_t>(count) * sizeof(T)) {}

    T* get() const { return bytes_.template as<T>(); }
    template <typename Make>
    void fill(Make make) const {
        for (std::int64_t i = 0; i < count_; ++i) get()[i] = static_cast<T>(make());
    }

private:
    std::int64_t count_;
    FencedBytes bytes_;
};

class RoundedProblem {
public:
    RoundedProblem(DType dtype, std::int64_t outputs, std::int64_t cols, Random& random)
        : dtype_(dtype),
          outputs_(outputs),
          cols_(cols),
          x_(kRows * cols),
          weight_(outputs * (is_int4() ? cols / 2 : cols)),
          groups_(is_int4() ? outputs * ((cols + kGroupSize - 1) / kGroupSize) : 0),
          scales_(outputs) {
        x_.fill([&] { return random.uniform(-1.0f, 1.0f); });
        weight_.fill([&] { return random.integer(0, 255); });
        groups_.fill([&] { return 0x3c00 + random.integer(0, 511); });  // bfloat16 of 0.008 to 0.03
        scales_.fill([&] { return random.uniform(0.01f, 0.02f); });
    }

    // Outputs of rows [first, first + rows), NaN where nothing was written.
    std::vector<float> outputs(std::int64_t first, std::int64_t rows) const {
        const std::int64_t count = rows * rounded_groups(cols_);
        const Fenced<char> values(kernels().rounded_bytes(rows, cols_)), row(kernels().rounded_bytes(1, cols_)),
            scratch(kernels().rounded_scratch(cols_));
        const Fenced<float> scales(count), out(rows * outputs_);
        const Fenced<std::int32_t> starts(count);
        for (const Fenced<char>* memory : {&values, &row, &scratch}) memory->fill([] { return 0x7f; });
        out.fill([] { return kNan; });
        RoundedRows rounded{x_.get() + first * cols_, cols_, rows, cols_, values.get(), scales.get(), starts.get()};
        const std::int64_t tile = kernels().rounded_tile_rows;
        kernels().round_rows(rounded, 0, (rows + tile - 1) / tile, row.get());
        LinearTask task;
        task.x = rounded.x;
        task.x_stride = cols_;
        task.rows = rows;
        task.weight = weight_.get();
        task.dtype = dtype_;
        task.cols = cols_;
        task.scales = is_int4() ? nullptr : scales_.get();
        task.group_scales = groups_.get();
        task.group_size = kGroupSize;
        task.out = out.get();
        task.out_stride = outputs_;
        task.end = outputs_;
        task.rounded = &rounded;
        kernels().linear_rounded(task, scratch.get());
        return {out.get(), out.get() + rows * outputs_};
    }

    static constexpr std::int64_t kRows = 8;

private:
    static constexpr std::int64_t kGroupSize = 64;

    bool is_int4() const { return dtype_ == DType::kInt4; }

    DType dtype_;
    std::int64_t outputs_, cols_;
    Fenced<float> x_;
    Fenced<unsigned char> weight_;
    Fenced<std::uint16_t> groups_;
    Fenced<float> scales_;
};

}  // namespace op_testing
