#include <algorithm>
#include <cmath>

#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

void check_states(const Matrix* states, std::int64_t layers, const Matrix& out) {
    expect(layers > 0, "layer_mix: no layers");
    expect(has_shape(out, out.rows, out.cols), "layer_mix: output is not float32");
    for (std::int64_t l = 0; l < layers; ++l) {
        expect(has_shape(states[l], out.rows, out.cols), "layer_mix: states are not all [M, D]");
    }
}

// Two arrays from one block of scratch.
struct RowsAndWeights {
    const float** rows;
    float* weights;

    explicit RowsAndWeights(std::int64_t count) {
        auto* memory = piece_scratch().get<char>(count * static_cast<std::int64_t>(sizeof(float*) + sizeof(float)));
        rows = reinterpret_cast<const float**>(memory);
        weights = reinterpret_cast<float*>(rows + count);
    }
};

// z of one token, layer after layer. The rows that are to be added to it wait until a larger score shrinks what is
// there, so that they are added in one pass; shrinking by 1 changes no bit, so that the bits depend on neither that nor
// on how many layers come at once.
class OnlineSum {
public:
    // `terms`: room for one row more than will wait.
    OnlineSum(const CpuKernels& kernels, const RowsAndWeights& terms, float* z, std::int64_t size)
        : kernels_(kernels), terms_(terms), z_(z), size_(size) {
        clear();
    }

    float largest = 0.0f, sum = 0.0f;

    void add(float score, const float* state, const float* position) {
        if (score > largest) {
            flush();
            terms_.weights[0] = std::exp(largest - score);
            sum *= terms_.weights[0];
            largest = score;
        }
        const float share = std::exp(score - largest);
        sum += share;
        for (const float* row : {state, position}) {
            terms_.rows[count_] = row;
            terms_.weights[count_++] = share;
        }
    }
    void flush() {
        if (count_ > 1) kernels_.weighted_sum(terms_.rows, terms_.weights, count_, size_, z_);
        clear();
    }
    void finish() {
        flush();
        terms_.weights[0] = 1.0f / sum;
        kernels_.weighted_sum(terms_.rows, terms_.weights, 1, size_, z_);
    }

private:
    void clear() {
        terms_.rows[0] = z_;
        terms_.weights[0] = 1.0f;
        count_ = 1;
    }

    const CpuKernels& kernels_;
    const RowsAndWeights& terms_;
    float* z_;
    std::int64_t size_;
    std::int64_t count_ = 0;
};

void check_mixer_attention(const MixerAttentionArgs& args) {
    const std::int64_t rows = args.z.rows, size = args.z.cols, all = args.score_bias.size - 1;
    check_states(args.states, args.layers, args.z);
    expect(args.key.size == size && args.cls.size == size, "mixer_attention: key or cls is not [D]");
    expect(args.first >= 0 && args.first + args.layers <= all, "mixer_attention: score_bias is not [L + 1]");
    expect(args.positions && args.positions.rows == all && args.positions.cols == size,
           "mixer_attention: positions are not [L, D]");
    expect(args.layers == all || has_shape(args.running, rows, 2), "mixer_attention: running is not [M, 2]");
}

}  // namespace

void CpuBackend::layer_mix(const LayerMixArgs& args) {
    const std::int64_t layers = args.layers, rows = args.fused.rows, size = args.fused.cols;
    const std::int64_t all = args.logits.cols, first = args.first;
    check_states(args.states, layers, args.fused);
    const bool global = args.logits.rows == 1 && rows != 1;
    expect(has_shape(args.logits, global ? 1 : rows, all) && first >= 0 && first + layers <= all,
           "layer_mix: logits are neither [M, L] nor [1, L]");
    expect(!args.weights || has_shape(args.weights, rows, all), "layer_mix: weights are not [M, L]");
    parallel(rows, layers * size, [&](std::int64_t begin, std::int64_t end) {
        const RowsAndWeights mix(all + 1);
        for (std::int64_t m = begin; m < end; ++m) {
            float *fused = args.fused.row<float>(m), *weights = mix.weights + 1;
            std::copy_n(args.logits.row<float>(global ? 0 : m), all, weights);
            kernels_.softmax(weights, all);
            if (args.weights) std::copy_n(weights, all, args.weights.row<float>(m));
            weights += first;
            for (std::int64_t l = 0; l < layers; ++l) mix.rows[l + 1] = args.states[l].row<float>(m);
            if (first == 0) {
                kernels_.weighted_sum(mix.rows + 1, weights, layers, size, fused);
                continue;
            }
            mix.rows[0] = fused;
            *--weights = 1.0f;
            kernels_.weighted_sum(mix.rows, weights, layers + 1, size, fused);
        }
    });
}

void CpuBackend::mixer_attention(const MixerAttentionArgs& args) {
    check_mixer_attention(args);
    const std::int64_t layers = args.layers, rows = args.z.rows, size = args.z.cols, first = args.first;
    const bool last = first + layers == args.score_bias.size - 1;
    float* positions = job_scratch().get<float>(layers * size);
    for (std::int64_t l = 0; l < layers; ++l) {
        const auto* row = static_cast<const char*>(args.positions.data) + (first + l) * args.positions.row_bytes();
        const float factor = args.positions.scales ? args.positions.scales[first + l] : 1.0f;
        kernels_.widen(args.positions.dtype, row, factor, size, positions + l * size);
    }
    parallel(rows, 3 * layers * size, [&](std::int64_t begin, std::int64_t end) {
        // The terms of z, and behind them the states and their scores.
        const RowsAndWeights scratch(1 + 3 * layers);
        const float** states = scratch.rows + 1 + 2 * layers;
        float* scores = scratch.weights + 1 + 2 * layers;
        for (std::int64_t m = begin; m < end; ++m) {
            OnlineSum z(kernels_, scratch, args.z.row<float>(m), size);
            if (first == 0) {
                z.largest = args.score_bias.data[0];  // position 0 attends to itself
                z.sum = 1.0f;
                std::copy_n(args.cls.data, size, args.z.row<float>(m));
            } else {
                z.largest = args.running.row<float>(m)[0];
                z.sum = args.running.row<float>(m)[1];
            }
            for (std::int64_t l = 0; l < layers; ++l) states[l] = args.states[l].row<float>(m);
            kernels_.dots(args.key.data, states, layers, size, scores);
            kernels_.add(scores, args.score_bias.data + 1 + first, layers, scores);
            for (std::int64_t l = 0; l < layers; ++l) z.add(scores[l], states[l], positions + l * size);
            if (last) {
                z.finish();
                continue;
            }
            z.flush();
            args.running.row<float>(m)[0] = z.largest;
            args.running.row<float>(m)[1] = z.sum;
        }
    });
}

}  // namespace lrengine
