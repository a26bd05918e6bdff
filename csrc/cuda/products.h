// Products as parts of other ops, which give them memory of their own: CudaBackend::scratch() serves one op at a time.
#pragma once

#include <span>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "ops/linear.h"

namespace lrengine::cuda {

// Throws Error(kInternal) unless every shape and type fits linear.h.
void check_product(const LinearArgs& args);

// Device memory that run_products() needs beside the arguments: at most a few times 64 MiB.
std::size_t product_scratch(Device& device, std::span<const LinearArgs> products);

// Checked products, by whichever way suits each: few rows together in one launch of our kernel, many rows by the matrix
// library. `scratch` is 256-byte aligned.
void run_products(Device& device, LaunchQueue& queue, std::span<const LinearArgs> products, void* scratch);

// The many-row way, for weights whose rows are whole 16-byte words. `parts`: one product, or several of one weight that
// can_join().
std::size_t many_rows_scratch(Device& device, std::span<const LinearArgs> parts);
void run_many_rows(Device& device, LaunchQueue& queue, std::span<const LinearArgs> parts, void* scratch);

// Whether the next product can be part of the one with `last`: of the same weight, its rows of x right behind in
// memory, and both finished by a kernel of ours, so that their outputs may lie anywhere.
bool can_join(Device& device, const LinearArgs& last, const LinearArgs& next);

// Hands out pieces of one allocation, each 256-byte aligned. Without memory it only counts.
class Pieces {
public:
    explicit Pieces(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}

    template <typename T>
    T* take(std::int64_t count) {
        char* piece = memory_ == nullptr ? nullptr : memory_ + used_;
        used_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
        return reinterpret_cast<T*>(piece);
    }

    std::size_t used() const { return used_; }

private:
    char* memory_;
    std::size_t used_ = 0;
};

}  // namespace lrengine::cuda
