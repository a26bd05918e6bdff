// What opening a model directory takes, and what share of it the checks are: open_bench DIRECTORY [ROUNDS] [cold].
// Each round times, one after the other and each with files mapped anew:
//   open        Engine::load()
//   structure   config.json, the map, headers, offsets, shapes and types: all checks but those of the numbers
//   touch       a byte of every page, which whoever reads weights from a file has to wait for
//   numbers     the search for NaN and Inf, and with it what `touch` does
// `cold`: the files are taken out of the page cache before each. Milliseconds: median (range) over the rounds.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

#include "core/checkpoint.h"
#include "core/thread_pool.h"
#include "core/weight_convert.h"
#include "models/config.h"
#include "runtime/engine.h"

namespace {

using namespace lrengine;

constexpr std::size_t kPage = 4096;
constexpr std::int64_t kGrain = std::int64_t{1} << 16;  // the loader's

class Bench {
public:
    Bench(std::filesystem::path directory, bool cold)
        : directory_(std::move(directory)),
          cold_(cold),
          pool_(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 8u))) {}

    double open() const {
        return timed([&] { Engine::load(directory_, {.device = "cpu", .dtype = {}, .threads = 1, .log = {}}); });
    }
    double structure() const {
        return timed([&] {
            read_config(directory_);
            Checkpoint::open(directory_);
        });
    }
    double touch() {
        return timed([&] {
            for_each_part([](const char* data, DType dtype, std::int64_t count) {
                const std::size_t bytes = static_cast<std::size_t>(count) * size_of(dtype);
                unsigned sum = 0;
                for (std::size_t i = 0; i < bytes; i += kPage) sum += static_cast<unsigned char>(data[i]);
                asm volatile("" : : "r"(sum));  // so that the reads are made
            });
        });
    }
    double numbers() {
        return timed([&] {
            for_each_part([](const char* data, DType dtype, std::int64_t count) {
                if (!values_are_sound(data, dtype, count)) std::abort();
            });
        });
    }

private:
    template <typename Body>
    void for_each_part(Body body) {
        const Checkpoint checkpoint = Checkpoint::open(directory_);
        for (const std::string& name : checkpoint.names()) {
            const TensorRecord& record = *checkpoint.find(name);
            const std::size_t width = size_of(record.dtype);
            pool_.run(
                static_cast<std::int64_t>(record.bytes / width), kGrain, [&](std::int64_t begin, std::int64_t end) {
                    const char* data = static_cast<const char*>(record.data) + static_cast<std::size_t>(begin) * width;
                    body(data, record.dtype, end - begin);
                });
        }
    }

    double timed(const std::function<void()>& body) const {
        if (cold_) forget_files();
        const auto start = std::chrono::steady_clock::now();
        body();
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }

    void forget_files() const {
        for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
            const int file = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
            if (file < 0) continue;
            ::fdatasync(file);  // what is not on the disk yet stays
            ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
            ::close(file);
        }
    }

    std::filesystem::path directory_;
    bool cold_;
    ThreadPool pool_;
};

double show(const char* name, std::vector<double> times) {
    std::sort(times.begin(), times.end());
    const double median = times[times.size() / 2];
    std::printf("%-10s %8.1f ms (%.1f to %.1f)\n", name, median, times.front(), times.back());
    return median;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s DIRECTORY [ROUNDS] [cold]\n", argv[0]);
        return 2;
    }
    const int rounds = argc > 2 ? std::max(1, std::atoi(argv[2])) : 11;
    Bench bench(argv[1], argc > 3 && std::strcmp(argv[3], "cold") == 0);
    std::vector<double> open, structure, touch, numbers;
    bench.open();
    for (int round = 0; round < rounds; ++round) {
        open.push_back(bench.open());
        structure.push_back(bench.structure());
        touch.push_back(bench.touch());
        numbers.push_back(bench.numbers());
    }
    const double total = show("open", open);
    const double checked = show("structure", structure);
    const double touched = show("touch", touch), searched = show("numbers", numbers);
    std::printf("structure: %.2f%% of opening; the search itself: %.1f%%\n", 100 * checked / total,
                100 * (searched - touched) / total);
    return 0;
}
