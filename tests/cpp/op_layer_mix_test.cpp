// Mixing encoder layers per token.
#include "op_testing.h"

namespace {

using namespace op_testing;

struct Layers {
    std::vector<TestMatrix> states;
    std::vector<Matrix> views;

    Layers(std::int64_t layers, std::int64_t rows, std::int64_t size, Random& random) {
        for (std::int64_t l = 0; l < layers; ++l) states.emplace_back(rows, size, random, l % 3);
        for (const TestMatrix& state : states) views.push_back(state.view());
    }
    double at(std::int64_t l, std::int64_t m, std::int64_t c) const {
        return states[static_cast<std::size_t>(l)].at(m, c);
    }
};

std::vector<double> softmax(std::vector<double> scores) {
    const double largest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - largest);
    for (double& score : scores) score /= sum;
    return scores;
}

}  // namespace

TEST(layer_mix_weighs_layers_per_token_or_for_all) {
    Random random(1);
    for (const bool global : {false, true}) {
        for (const std::int64_t layers : {1, 5, 24}) {
            const std::int64_t rows = 7, size = 83;
            const Layers states(layers, rows, size, random);
            const TestMatrix logits(global ? 1 : rows, layers, random), fused(rows, size), weights(rows, layers);
            logits.at(0, 0) = 30.0f;
            const auto expected = [&](std::int64_t m) {
                std::vector<double> scores;
                for (std::int64_t l = 0; l < layers; ++l) scores.push_back(logits.at(global ? 0 : m, l));
                return softmax(scores);
            };
            LayerMixArgs args{states.views.data(), layers, logits.view(), fused.view(), weights.view()};
            backend().layer_mix(args);
            check_close(weights, 1e-6,
                        [&](std::int64_t m, std::int64_t l) { return expected(m)[static_cast<std::size_t>(l)]; });
            const auto mixed = [&](std::int64_t m, std::int64_t c) {
                double sum = 0;
                for (std::int64_t l = 0; l < layers; ++l)
                    sum += expected(m)[static_cast<std::size_t>(l)] * states.at(l, m, c);
                return sum;
            };
            check_close(fused, 2e-6, mixed);
            args.weights = {};
            backend(5).layer_mix(args);
            check_close(fused, 2e-6, mixed);
        }
    }
}

TEST(mixer_attention_reads_position_zero_of_the_mixer_layer) {
    Random random(2);
    for (const std::int64_t layers : {1, 4, 12}) {
        for (const std::int64_t size : {5, 64, 75}) {
            const std::int64_t rows = 6;
            const Layers states(layers, rows, size, random);
            const std::vector<float> key = random.floats(size), bias = random.floats(layers + 1),
                                     cls = random.floats(size);
            const TestWeight positions(layers == 4 ? DType::kBFloat16 : DType::kFloat32, layers, size, random);
            const TestMatrix z(rows, size);
            const MixerAttentionArgs args{states.views.data(), layers,         vector_of(key), vector_of(bias),
                                          positions.view(),    vector_of(cls), z.view()};
            backend().mixer_attention(args);
            check_close(z, 4e-6, [&](std::int64_t m, std::int64_t c) {
                std::vector<double> scores{bias[0]};
                for (std::int64_t l = 0; l < layers; ++l) {
                    scores.push_back(bias[static_cast<std::size_t>(l + 1)]);
                    for (std::int64_t i = 0; i < size; ++i)
                        scores.back() += key[static_cast<std::size_t>(i)] * states.at(l, m, i);
                }
                const std::vector<double> alpha = softmax(scores);
                double sum = alpha[0] * cls[static_cast<std::size_t>(c)];
                for (std::int64_t l = 0; l < layers; ++l) {
                    sum += alpha[static_cast<std::size_t>(l + 1)] * (states.at(l, m, c) + positions.at(l, c));
                }
                return sum;
            });
        }
    }
}
