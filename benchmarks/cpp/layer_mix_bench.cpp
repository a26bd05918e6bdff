// Times the CPU's layer mixing with the encoder's own traffic around it: layer_mix_bench [threads] [repeats].
// A stand-in for each layer reads its weights (12 D^2 bfloat16) and writes its state; then the states are mixed: all at
// once at the end, or G at a time as they come. Milliseconds, the fastest, of the states' additions and the mixing,
// without the weights; the ratio is to "all at once".
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "ops/backend.h"

namespace {

using namespace lrengine;

class Bench {
public:
    Bench(Backend& backend, std::int64_t layers, std::int64_t rows, std::int64_t width)
        : backend_(backend),
          layers_(layers),
          rows_(rows),
          width_(width),
          key_(values(width)),
          bias_(values(layers + 1)) {
        for (std::int64_t l = 0; l < layers; ++l) states_.push_back(values(rows * width));
        weights_.assign(static_cast<std::size_t>(3 * width * width), 1);
    }

    // Seconds of one encoder run that mixes `at_once` layers at a time.
    double run(std::int64_t at_once, bool transformer) {
        double seconds = 0;
        const bool keeps = transformer || at_once == layers_;
        std::vector<Matrix> group;
        for (std::int64_t l = 0; l < layers_; ++l) {
            read_weights();
            const auto slot = [&](std::int64_t layer) { return matrix(states_, keeps ? layer : layer % at_once); };
            seconds += timed([&] { backend_.add({slot(std::max<std::int64_t>(l - 1, 0)), matrix(delta_), slot(l)}); });
            group.push_back(slot(l));
            if ((l + 1) % at_once != 0 && l + 1 != layers_) continue;
            const std::int64_t first = l + 1 - static_cast<std::int64_t>(group.size());
            seconds += timed([&] { transformer ? attend(group, first) : mix(group, first); });
            group.clear();
        }
        if (!transformer) return seconds;
        for (std::int64_t l = 0; l < layers_; ++l) group.push_back(matrix(states_, l));
        return seconds + timed([&] { mix(group, 0); });
    }

private:
    template <typename Body>
    static double timed(const Body& body) {
        const auto start = std::chrono::steady_clock::now();
        body();
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    static std::vector<float> values(std::int64_t count) {
        return std::vector<float>(static_cast<std::size_t>(count), 0.01f);
    }
    void read_weights() { sum_ = std::accumulate(weights_.begin(), weights_.end(), sum_ + 0); }
    Matrix matrix(std::vector<float>& memory) const { return {memory.data(), DType::kFloat32, rows_, width_, width_}; }
    Matrix matrix(std::vector<std::vector<float>>& all, std::int64_t i) const {
        return matrix(all[static_cast<std::size_t>(i)]);
    }
    void mix(const std::vector<Matrix>& states, std::int64_t first) {
        const Matrix logits{bias_.data(), DType::kFloat32, 1, layers_, layers_};
        backend_.layer_mix(
            {states.data(), static_cast<std::int64_t>(states.size()), logits, matrix(fused_), {}, first});
    }
    void attend(const std::vector<Matrix>& states, std::int64_t first) {
        const Weight positions{positions_.data(), DType::kFloat32, layers_, width_, nullptr};
        backend_.mixer_attention({.states = states.data(),
                                  .layers = static_cast<std::int64_t>(states.size()),
                                  .key = {key_.data(), width_},
                                  .score_bias = {bias_.data(), layers_ + 1},
                                  .positions = positions,
                                  .cls = {key_.data(), width_},
                                  .z = matrix(z_),
                                  .first = first,
                                  .running = {running_.data(), DType::kFloat32, rows_, 2, 2}});
    }

    Backend& backend_;
    std::int64_t layers_, rows_, width_;
    std::vector<std::vector<float>> states_;
    std::vector<float> key_, bias_;
    std::vector<float> delta_ = values(rows_ * width_), fused_ = delta_, z_ = delta_, running_ = values(2 * rows_),
                       positions_ = values(layers_ * width_);
    std::vector<std::uint64_t> weights_;
    volatile std::uint64_t sum_ = 0;
};

double fastest(const std::vector<double>& times) { return *std::min_element(times.begin(), times.end()); }

}  // namespace

int main(int argc, char** argv) {
    const int threads = argc > 1 ? std::atoi(argv[1]) : 1, repeats = argc > 2 ? std::atoi(argv[2]) : 7;
    const std::unique_ptr<Backend> backend = make_cpu_backend(threads);
    constexpr std::int64_t kLayers = 24, kWidth = 1024;
    std::printf("%s, %d threads; L = 24, D = 1024; fastest of %d\n", cpu_isa().c_str(), threads, repeats);
    for (const std::int64_t rows : {16, 64, 256, 512, 1024, 2048}) {
        Bench bench(*backend, kLayers, rows, kWidth);
        for (const bool transformer : {false, true}) {
            const std::vector<std::int64_t> ways{kLayers, 8, 4, 2, 1};
            std::vector<std::vector<double>> times(ways.size());
            for (int i = 0; i < repeats; ++i) {
                for (std::size_t way = 0; way < ways.size(); ++way)
                    times[way].push_back(bench.run(ways[way], transformer));
            }
            std::printf("M = %-5ld %-11s", static_cast<long>(rows), transformer ? "transformer" : "global");
            for (std::size_t way = 0; way < ways.size(); ++way) {
                std::printf("  G = %-2ld %8.3f (%4.2f)", static_cast<long>(ways[way]), fastest(times[way]) * 1e3,
                            fastest(times[way]) / fastest(times[0]));
            }
            std::printf("\n");
        }
    }
}
