#include <algorithm>

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

}  // namespace

void CpuBackend::layer_mix(const LayerMixArgs& args) {
    const std::int64_t layers = args.layers, rows = args.fused.rows, size = args.fused.cols;
    check_states(args.states, layers, args.fused);
    const bool global = args.logits.rows == 1 && rows != 1;
    expect(has_shape(args.logits, global ? 1 : rows, layers), "layer_mix: logits are neither [M, L] nor [1, L]");
    expect(!args.weights || has_shape(args.weights, rows, layers), "layer_mix: weights are not [M, L]");
    parallel(rows, layers * size, [&](std::int64_t begin, std::int64_t end) {
        const RowsAndWeights mix(layers);
        for (std::int64_t m = begin; m < end; ++m) {
            std::copy_n(args.logits.row<float>(global ? 0 : m), layers, mix.weights);
            kernels_.softmax(mix.weights, layers);
            if (args.weights) std::copy_n(mix.weights, layers, args.weights.row<float>(m));
            for (std::int64_t l = 0; l < layers; ++l) mix.rows[l] = args.states[l].row<float>(m);
            kernels_.weighted_sum(mix.rows, mix.weights, layers, size, args.fused.row<float>(m));
        }
    });
}

void CpuBackend::mixer_attention(const MixerAttentionArgs& args) {
    const std::int64_t layers = args.layers, rows = args.z.rows, size = args.z.cols;
    check_states(args.states, layers, args.z);
    expect(args.key.size == size && args.cls.size == size, "mixer_attention: key or cls is not [D]");
    expect(args.score_bias.size == layers + 1, "mixer_attention: score_bias is not [L + 1]");
    expect(args.positions && args.positions.rows == layers && args.positions.cols == size,
           "mixer_attention: positions are not [L, D]");

    float* positions = job_scratch().get<float>(layers * size);
    for (std::int64_t l = 0; l < layers; ++l) {
        const auto* row = static_cast<const char*>(args.positions.data) + l * args.positions.row_bytes();
        const float factor = args.positions.scales ? args.positions.scales[l] : 1.0f;
        kernels_.widen(args.positions.dtype, row, factor, size, positions + l * size);
    }
    parallel(rows, 3 * layers * size, [&](std::int64_t begin, std::int64_t end) {
        // Terms of z: the states, then their positions, then c. The scores are made where the states' weights lie, with
        // c's behind them.
        const RowsAndWeights mix(2 * layers + 1);
        for (std::int64_t l = 0; l < layers; ++l) mix.rows[layers + l] = positions + l * size;
        mix.rows[2 * layers] = args.cls.data;
        for (std::int64_t m = begin; m < end; ++m) {
            for (std::int64_t l = 0; l < layers; ++l) mix.rows[l] = args.states[l].row<float>(m);
            kernels_.dots(args.key.data, mix.rows, layers, size, mix.weights);
            kernels_.add(mix.weights, args.score_bias.data + 1, layers, mix.weights);
            mix.weights[layers] = args.score_bias.data[0];
            kernels_.softmax(mix.weights, layers + 1);
            mix.weights[2 * layers] = mix.weights[layers];
            std::copy_n(mix.weights, layers, mix.weights + layers);
            kernels_.weighted_sum(mix.rows, mix.weights, 2 * layers + 1, size, args.z.row<float>(m));
        }
    });
}

}  // namespace lrengine
