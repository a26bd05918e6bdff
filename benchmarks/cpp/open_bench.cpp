// What opening a model directory takes, and what share of it the checks are: open_bench DIRECTORY [ROUNDS] [cold].
// Each round times, one after the other and each with files mapped anew:
//   open        as lrengine_open(): the weights and, on another thread, a tokenizer.json if there is one; the search
//               for NaN and Inf is begun, and goes on behind it
//   fetched     the same with a thread that reads a byte of every page in the search's place: what is left is the check
//   unsearched  the same with neither
//   ready       open, then the end of the search: what the first request waits for
//   touch       a byte of every page of the weights, on one thread with nothing beside it
//   structure   config.json, the map, headers, offsets, shapes and types: all checks but those of the numbers
// `cold`: the files are taken out of the page cache before each. Milliseconds: median (range) over the rounds.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "core/background.h"
#include "core/checkpoint.h"
#include "models/config.h"
#include "models/model.h"
#include "text/tokenizer.h"

namespace {

using namespace lrengine;

constexpr std::size_t kPage = 4096;

class Bench {
public:
    Bench(std::filesystem::path directory, bool cold) : directory_(std::move(directory)), cold_(cold) {}

    enum class Beside { kNothing, kPages, kSearch, kWholeSearch };

    double open(Beside beside) const {
        std::unique_ptr<Model> model;                                // closed after the clock has stopped
        const Checkpoint checkpoint = Checkpoint::open(directory_);  // the toucher's
        std::atomic<bool> stop{false};
        std::thread toucher;
        const double time = timed([&] {
            Background<std::unique_ptr<Tokenizer>> tokenizer(true, [&] { return Tokenizer::load(directory_); });
            model = load_model(directory_, make_cpu_backend(1), std::nullopt);
            if (beside == Beside::kPages) {
                toucher = std::thread([&] { touch_pages(checkpoint, stop); });
            } else if (beside != Beside::kNothing) {
                model->weight_search().start();
            }
            tokenizer.get();
            if (beside == Beside::kWholeSearch) model->weight_search().finish();
        });
        stop = true;
        if (toucher.joinable()) toucher.join();
        return time;
    }
    double touch() const {
        return timed([&] { touch_pages(Checkpoint::open(directory_), false); });
    }
    double structure() const {
        return timed([&] {
            read_config(directory_);
            Checkpoint::open(directory_);
        });
    }

private:
    static void touch_pages(const Checkpoint& checkpoint, const std::atomic<bool>& stop) {
        for (const std::string& name : checkpoint.names()) {
            const TensorRecord& record = *checkpoint.find(name);
            const auto* data = static_cast<const unsigned char*>(record.data);
            for (std::size_t i = 0; i < record.bytes && !stop; i += kPage) {
                asm volatile("" : : "r"(data[i]));  // so that the read is made
            }
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
    using Beside = Bench::Beside;
    std::vector<double> open, fetched, unsearched, ready, touch, structure;
    bench.open(Beside::kWholeSearch);
    for (int round = 0; round < rounds; ++round) {
        open.push_back(bench.open(Beside::kSearch));
        fetched.push_back(bench.open(Beside::kPages));
        unsearched.push_back(bench.open(Beside::kNothing));
        ready.push_back(bench.open(Beside::kWholeSearch));
        touch.push_back(bench.touch());
        structure.push_back(bench.structure());
    }
    const double opened = show("open", open), with_pages = show("fetched", fetched);
    const double without = show("unsearched", unsearched);
    show("ready", ready);
    show("touch", touch);
    const double checked = show("structure", structure);
    std::printf(
        "of opening: the search %+.2f%%, of it looking at the numbers %+.2f%%; structure with its reading %.2f%%\n",
        100 * (opened - without) / opened, 100 * (opened - with_pages) / opened, 100 * checked / opened);
    return 0;
}
