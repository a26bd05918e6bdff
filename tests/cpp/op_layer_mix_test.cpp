// Mixing encoder layers per token.
#include "op_testing.h"

namespace {

using namespace op_testing;

struct Layers {
    std::vector<TestMatrix> states;
    std::vector<Matrix> views;

    // Aligned: as a model's are; else each layer's rows lie as they happen to.
    Layers(std::int64_t layers, std::int64_t rows, std::int64_t size, Random& random, bool aligned = false,
           const std::vector<DType>& types = {activation_type()}) {
        for (std::int64_t l = 0; l < layers; ++l) {
            const DType type = types[static_cast<std::size_t>(l) % types.size()];
            states.emplace_back(rows, size, random, aligned ? 8 * (l % 2) : l % 3, type);
        }
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

// Numbers of layers at a time that a mix of this many may be cut into.
std::vector<std::int64_t> parts_of(std::int64_t layers) {
    return layers < 3 ? std::vector<std::int64_t>{1} : std::vector<std::int64_t>{1, 2, layers - 1};
}

void check_layer_mix(const Layers& states, bool global, Random& random) {
    const auto layers = static_cast<std::int64_t>(states.states.size());
    const std::int64_t rows = states.states[0].rows(), size = states.states[0].cols();
    const TestMatrix logits(global ? 1 : rows, layers, random), fused(rows, size, 8), weights(rows, layers);
    logits.set(0, 0, 30.0f);
    const auto expected = [&](std::int64_t m) {
        std::vector<double> scores;
        for (std::int64_t l = 0; l < layers; ++l) scores.push_back(logits.at(global ? 0 : m, l));
        return softmax(scores);
    };
    const auto mixed = [&](std::int64_t m, std::int64_t c) {
        const std::vector<double> shares = expected(m);
        double sum = 0;
        for (std::int64_t l = 0; l < layers; ++l) sum += shares[static_cast<std::size_t>(l)] * states.at(l, m, c);
        return sum;
    };
    LayerMixArgs args{states.views.data(), layers, logits.view(), fused.view(), weights.view()};
    backend().layer_mix(args);
    check_close(weights, 1e-6,
                [&](std::int64_t m, std::int64_t l) { return expected(m)[static_cast<std::size_t>(l)]; });
    check_close(fused, 2e-6, mixed);
    args.weights = {};
    backend(5).layer_mix(args);
    check_close(fused, 2e-6, mixed);
    for (const std::int64_t at_once : parts_of(layers)) {
        const TestMatrix sum(rows, size, 8, DType::kFloat32);
        for (std::int64_t l = 0; l < layers; l += at_once) {
            backend().layer_mix({.states = states.views.data() + l,
                                 .layers = std::min(at_once, layers - l),
                                 .logits = logits.view(),
                                 .fused = sum.view(),
                                 .weights = {},
                                 .first = l});
        }
        check_close(sum, 2e-6, mixed);
        if (fused.dtype() == DType::kFloat32) CHECK(same_bits(sum, fused));
    }
}

void check_mixer_attention(const Layers& states, DType position_type, Random& random) {
    const auto layers = static_cast<std::int64_t>(states.states.size());
    const std::int64_t rows = states.states[0].rows(), size = states.states[0].cols();
    const TestVector key(random.floats(size)), bias(random.floats(layers + 1)), cls(random.floats(size));
    const TestWeight positions(position_type, layers, size, random);
    const TestMatrix z(rows, size, 8);
    MixerAttentionArgs args{.states = states.views.data(),
                            .layers = layers,
                            .key = key.view(),
                            .score_bias = bias.view(),
                            .positions = positions.view(),
                            .cls = cls.view(),
                            .z = z.view(),
                            .running = {}};
    backend().mixer_attention(args);
    std::vector<std::vector<double>> alpha;
    for (std::int64_t m = 0; m < rows; ++m) {
        std::vector<double> scores{bias[0]};
        for (std::int64_t l = 0; l < layers; ++l) {
            scores.push_back(bias[l + 1]);
            for (std::int64_t i = 0; i < size; ++i) scores.back() += key[i] * states.at(l, m, i);
        }
        alpha.push_back(softmax(scores));
    }
    const auto expected = [&](std::int64_t m, std::int64_t c) {
        const std::vector<double>& shares = alpha[static_cast<std::size_t>(m)];
        double sum = shares[0] * cls[c];
        for (std::int64_t l = 0; l < layers; ++l) {
            sum += shares[static_cast<std::size_t>(l + 1)] * (states.at(l, m, c) + positions.at(l, c));
        }
        return sum;
    };
    check_close(z, 4e-6, expected);
    for (const std::int64_t at_once : parts_of(layers)) {
        const TestMatrix part(rows, size, 8, DType::kFloat32), running(rows, 2, 3, DType::kFloat32);
        args.z = part.view();
        args.running = running.view();
        for (args.first = 0; args.first < layers; args.first += at_once) {
            args.states = states.views.data() + args.first;
            args.layers = std::min(at_once, layers - args.first);
            backend().mixer_attention(args);
        }
        check_close(part, 4e-6, expected);
        if (!on_cuda()) CHECK(same_bits(part, z));
    }
}

}  // namespace

OP_TEST(layer_mix_weighs_layers_per_token_or_for_all) {
    Random random(1);
    for (const bool global : {false, true}) {
        for (const std::int64_t layers : {1, 5, 24}) check_layer_mix(Layers(layers, 7, 83, random), global, random);
        check_layer_mix(Layers(12, 5, 264, random, true), global, random);
    }
    check_layer_mix(Layers(49, 2, 40, random), false, random);
    check_layer_mix(Layers(3, 1, 8, random), true, random);
}

OP_TEST(layer_mix_of_states_of_several_types) {
    Random random(3);
    check_layer_mix(Layers(5, 3, 40, random, true, activation_types()), false, random);
    check_mixer_attention(Layers(5, 3, 40, random, true, activation_types()), DType::kFloat32, random);
}

OP_TEST(mixer_attention_reads_position_zero_of_the_mixer_layer) {
    Random random(2);
    for (const std::int64_t layers : {1, 4, 12}) {
        const DType type = layers == 4 ? DType::kBFloat16 : DType::kFloat32;
        for (const std::int64_t size : {5, 64, 75})
            check_mixer_attention(Layers(layers, 6, size, random), type, random);
        check_mixer_attention(Layers(layers, 3, 776, random, true), type, random);
    }
    check_mixer_attention(Layers(49, 2, 40, random), DType::kFloat32, random);
}

// More columns than a block of a GPU takes eight at a time.
OP_TEST(mixer_attention_of_wide_states) {
    Random random(4);
    check_mixer_attention(Layers(9, 1, 4104, random, true), DType::kBFloat16, random);
}

OP_TEST(layer_mix_refuses_shapes_that_do_not_fit) {
    Random random(5);
    const Layers states(3, 2, 8, random);
    const TestMatrix logits(2, 4, random), few(2, 2, random), fused(2, 8), narrow(2, 7);
    LayerMixArgs args{states.views.data(), 3, few.view(), fused.view(), {}};
    CHECK_ERROR(backend().layer_mix(args), ErrorCode::kInternal, "logits are neither");
    args.logits = logits.view();
    args.first = 2;
    CHECK_ERROR(backend().layer_mix(args), ErrorCode::kInternal, "logits are neither");
    const LayerMixArgs other{states.views.data(), 3, logits.view(), narrow.view(), {}};
    CHECK_ERROR(backend().layer_mix(other), ErrorCode::kInternal, "states are not all");
    const TestVector key(random.floats(8)), bias(random.floats(3));
    const TestWeight positions(DType::kFloat32, 3, 8, random);
    MixerAttentionArgs mixer{.states = states.views.data(),
                             .layers = 3,
                             .key = key.view(),
                             .score_bias = bias.view(),
                             .positions = positions.view(),
                             .cls = key.view(),
                             .z = fused.view(),
                             .running = {}};
    CHECK_ERROR(backend().mixer_attention(mixer), ErrorCode::kInternal, "score_bias");
    mixer.first = -1;
    mixer.layers = 2;
    CHECK_ERROR(backend().mixer_attention(mixer), ErrorCode::kInternal, "score_bias");
    const TestVector longer(random.floats(4));
    mixer.first = 0;
    mixer.score_bias = longer.view();
    CHECK_ERROR(backend().mixer_attention(mixer), ErrorCode::kInternal, "running");
}
