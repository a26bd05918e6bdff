// Times the CPU's linear products: linear_bench [threads] [repeats].
// Each call uses another copy of the weight, so that weights come from memory as they do in a decode step. Prints
// medians: microseconds, GB/s of weights, the share of what plainly reading memory with the same threads gives, and
// GFLOP/s.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/int4_groups.h"
#include "core/thread_pool.h"
#include "ops/backend.h"

namespace {

using namespace lrengine;

struct Shape {
    std::int64_t n, k;
};

constexpr std::size_t kColdBytes = std::size_t{512} << 20;  // well beyond any cache

template <typename Body>
double seconds(const Body& body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

double fastest(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

// Seconds that summing these words takes.
double read_once(ThreadPool& pool, std::span<const std::uint64_t> memory) {
    std::atomic<std::uint64_t> total = 0;
    return seconds([&] {
        pool.run(static_cast<std::int64_t>(memory.size()), 4096, [&](std::int64_t begin, std::int64_t end) {
            std::uint64_t sums[8] = {};
            for (std::int64_t i = begin; i + 8 <= end; i += 8) {
                for (int j = 0; j < 8; ++j) sums[j] += memory[static_cast<std::size_t>(i + j)];
            }
            for (const std::uint64_t sum : sums) total += sum;
        });
    });
}

class Bench {
public:
    Bench(int threads, int repeats)
        : backend_(make_cpu_backend(threads)), pool_(threads), repeats_(repeats), memory_(kColdBytes / 8) {
        std::mt19937 random(1);
        // Half of the bits of a float's exponent set: numbers near 1 in every type.
        for (std::uint64_t& word : memory_) word = (random() & 0x007f007full) * 0x100000001ull | 0x3f803f803f803f80ull;
    }

    void run(DType dtype, Shape shape, std::int64_t rows) {
        Weight weight{.dtype = dtype, .rows = shape.n, .cols = shape.k};
        const auto bytes = static_cast<std::size_t>(shape.n * weight.row_bytes());
        const std::size_t copies = std::max<std::size_t>(kColdBytes / bytes, 1);
        std::vector<float> x(static_cast<std::size_t>(rows * shape.k), 0.5f),
            out(static_cast<std::size_t>(rows * shape.n));
        const std::vector<float> scales(static_cast<std::size_t>(shape.n), 0.01f);
        const std::vector<std::uint16_t> group_scales(static_cast<std::size_t>(shape.n * shape.k / kInt4GroupSize),
                                                      0x3c00);
        if (dtype == DType::kInt8) weight.scales = scales.data();
        if (dtype == DType::kInt4) weight.group_scales = group_scales.data();
        if (dtype == DType::kInt4) weight.group_size = kInt4GroupSize;
        std::vector<double> times, reads;
        for (int i = 0; i < repeats_; ++i) {
            const std::size_t mine = static_cast<std::size_t>(2 * i) % copies, other = (mine + 1) % copies;
            LinearArgs args;
            args.x = {x.data(), DType::kFloat32, rows, shape.k, shape.k};
            args.weight = weight;
            args.weight.data = bytes_at(mine * bytes);
            args.out = {out.data(), DType::kFloat32, rows, shape.n, shape.n};
            times.push_back(seconds([&] { backend_->linear(args); }));
            reads.push_back(read_once(pool_, std::span(memory_).subspan(other * bytes / 8, bytes / 8)));
        }
        const double flops = 2.0 * static_cast<double>(rows * shape.n * shape.k);
        std::printf("%-9s M=%-4ld N=%-7ld K=%-5ld %9.1f us %6.2f GB/s %5.0f%% %8.1f GFLOP/s | %9.1f us %5.0f%%\n",
                    std::string(name_of(dtype)).c_str(), static_cast<long>(rows), static_cast<long>(shape.n),
                    static_cast<long>(shape.k), median(times) * 1e6, static_cast<double>(bytes) / median(times) / 1e9,
                    100 * median(reads) / median(times), flops / median(times) / 1e9, fastest(times) * 1e6,
                    100 * fastest(reads) / fastest(times));
    }

private:
    const char* bytes_at(std::size_t offset) const { return reinterpret_cast<const char*>(memory_.data()) + offset; }

    std::unique_ptr<Backend> backend_;
    ThreadPool pool_;
    int repeats_;
    std::vector<std::uint64_t> memory_;
};

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2, repeats = argc > 2 ? std::atoi(argv[2]) : 21;
    std::printf("%s, %d threads, median of %d\n", cpu_isa().c_str(), threads, repeats);
    Bench bench(threads, std::max(repeats, 3));
    for (const Shape shape : {Shape{135359, 768}, Shape{3072, 768}, Shape{768, 3072}, Shape{768, 768}}) {
        for (const std::int64_t rows : {1, 4, 64, 256}) {
            if (shape.n > 100000 && rows > 4) continue;
            for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kInt8, DType::kInt4}) {
                bench.run(dtype, shape, rows);
            }
        }
    }
}
