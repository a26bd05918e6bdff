// The mixer's folded form against the layer it stands for, computed plainly in double; and the classifier around it.
#include <algorithm>

#include "core/error.h"
#include "counting_backend.h"
#include "harness.h"
#include "tiny_models.h"

using namespace lrengine;
using tiny::Ids;

namespace {

using Row = std::vector<double>;

constexpr std::size_t kD = tiny::kWidth, kL = tiny::kLayers;

// Rows [first, first + count) of a weight times x, plus the bias.
Row linear(const std::vector<float>& weight, const std::vector<float>& bias, std::size_t first, std::size_t count,
           const Row& x) {
    Row out;
    for (std::size_t i = first; i < first + count; ++i) {
        double sum = bias[i];
        for (std::size_t j = 0; j < x.size(); ++j) sum += static_cast<double>(weight[i * x.size() + j]) * x[j];
        out.push_back(sum);
    }
    return out;
}

Row linear(const tiny::Directory& model, const std::string& name, const Row& x) {
    const auto& bias = model.values(name + ".bias");
    return linear(model.values(name + ".weight"), bias, 0, bias.size(), x);
}

Row layer_norm(const tiny::Directory& model, const std::string& name, const Row& x) {
    double mean = 0.0, variance = 0.0;
    for (const double value : x) mean += value / static_cast<double>(x.size());
    for (const double value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
    Row out;
    for (std::size_t i = 0; i < x.size(); ++i) {
        out.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) * model.values(name + ".weight")[i] +
                      model.values(name + ".bias")[i]);
    }
    return out;
}

Row softmax(Row x) {
    const double largest = *std::max_element(x.begin(), x.end());
    double sum = 0.0;
    for (double& value : x) sum += value = std::exp(value - largest);
    for (double& value : x) value /= sum;
    return x;
}

Row sum_of(const Row& a, const Row& b) {
    Row out = a;
    for (std::size_t i = 0; i < a.size(); ++i) out[i] += b[i];
    return out;
}

// MODELS.md, B: a post-norm layer over [c, h_1 + p_1, ..., h_L + p_L], its output at position 0, then Linear.
Row plain_logits(const tiny::Directory& model, const std::vector<Row>& layers) {
    const auto& in = model.values("mixer.attention.in_proj_weight");
    const auto& in_bias = model.values("mixer.attention.in_proj_bias");
    const auto& positions = model.values("mixer.position_embeddings");
    const auto& learned = model.values("mixer.cls");
    std::vector<Row> tokens{Row(learned.begin(), learned.end())};
    for (std::size_t l = 0; l < kL; ++l) {
        tokens.push_back(sum_of(layers[l], Row(positions.begin() + static_cast<std::ptrdiff_t>(l * kD),
                                               positions.begin() + static_cast<std::ptrdiff_t>((l + 1) * kD))));
    }
    const Row query = linear(in, in_bias, 0, kD, tokens[0]);
    Row scores;
    for (const Row& token : tokens) {
        const Row key = linear(in, in_bias, kD, kD, token);
        double score = 0.0;
        for (std::size_t i = 0; i < kD; ++i) score += query[i] * key[i];
        scores.push_back(score / std::sqrt(static_cast<double>(kD)));
    }
    const Row alpha = softmax(scores);
    Row mixed(kD, 0.0);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        const Row value = linear(in, in_bias, 2 * kD, kD, tokens[t]);
        for (std::size_t i = 0; i < kD; ++i) mixed[i] += alpha[t] * value[i];
    }
    Row x = layer_norm(model, "mixer.norm1", sum_of(tokens[0], linear(model, "mixer.attention.out_proj", mixed)));
    Row hidden = linear(model, "mixer.linear1", x);
    for (double& value : hidden) value = std::max(value, 0.0);
    x = layer_norm(model, "mixer.norm2", sum_of(x, linear(model, "mixer.linear2", hidden)));
    return linear(model, "mixer.output", x);
}

Row global_logits(const tiny::Directory& model) {
    const double factor = 100.0 + 1e5 * static_cast<double>(model.values("mixer.temperature")[0]);
    Row logits;
    for (const float value : model.values("mixer.layer_logits")) logits.push_back(factor * static_cast<double>(value));
    return logits;
}

void add_global_tensors(tiny::Directory& directory) {
    directory.vector("mixer.layer_logits", tiny::kLayers);
    directory.vector("mixer.temperature", 1);
    // The size that training gives them: (100 + 1e5 * 1e-5) * 3e-5 apart.
    directory.set("mixer.layer_logits", {0.01f, 0.004f, 0.013f});
    directory.set("mixer.temperature", {1e-5f});
}

// Fused states and weights of every token against `expected_logits` of its layer states.
template <typename Logits>
void check_mix(const Model& model, const Logits& expected_logits) {
    const Ids first = tiny::some_ids(11, 1), second = tiny::some_ids(2, 2), none;
    const std::vector<std::span<const std::int32_t>> sources{first, none, second};
    const auto states = model.encode(sources, EncodeOutput::kAll);
    const auto fused = model.encode(sources, EncodeOutput::kFused);
    const auto weights = model.encode(sources, EncodeOutput::kWeights);
    CHECK(states[1].empty() && fused[1].empty() && weights[1].empty());
    for (const std::size_t b : {0, 2}) {
        const std::size_t length = sources[b].size();
        REQUIRE(states[b].size() == kL * length * kD);
        REQUIRE(fused[b].size() == length * kD && weights[b].size() == length * kL);
        for (std::size_t s = 0; s < length; ++s) {
            std::vector<Row> layers;
            for (std::size_t l = 0; l < kL; ++l) {
                const auto begin = states[b].begin() + static_cast<std::ptrdiff_t>((l * length + s) * kD);
                layers.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(kD));
            }
            const Row expected = softmax(expected_logits(layers));
            for (std::size_t l = 0; l < kL; ++l) CHECK(std::abs(weights[b][s * kL + l] - expected[l]) < 1e-5);
            for (std::size_t i = 0; i < kD; ++i) {
                double value = 0.0;
                for (std::size_t l = 0; l < kL; ++l) value += expected[l] * layers[l][i];
                CHECK(std::abs(fused[b][s * kD + i] - value) < 1e-5);
            }
        }
    }
}

}  // namespace

TEST(the_folded_transformer_mixer_is_the_plain_one) {
    tiny::Directory directory;
    tiny::write_classifier(directory, tiny::transformer_mixer(directory));
    check_mix(*tiny::load(directory), [&](const std::vector<Row>& layers) { return plain_logits(directory, layers); });
    tiny::Directory fusion;  // mT5: its last state has a norm of its own
    tiny::write_fusion(fusion);
    check_mix(*tiny::load(fusion), [&](const std::vector<Row>& layers) { return plain_logits(fusion, layers); });
}

TEST(global_logits_are_added_to_the_transformers) {
    tiny::Directory directory;
    tiny::transformer_mixer(directory);
    add_global_tensors(directory);
    tiny::write_classifier(directory, R"("mixer": {"type": "transformer", "ffn_dim": 19, "add_global": true})");
    check_mix(*tiny::load(directory), [&](const std::vector<Row>& layers) {
        return sum_of(plain_logits(directory, layers), global_logits(directory));
    });
}

TEST(the_global_mixer_weighs_every_token_alike) {
    tiny::Directory directory;
    add_global_tensors(directory);
    tiny::write_classifier(directory, R"("mixer": {"type": "global"})");
    check_mix(*tiny::load(directory), [&](const std::vector<Row>&) { return global_logits(directory); });
}

namespace {

// The model on a device whose cache holds `states` states of `tokens` tokens for the mixer.
std::unique_ptr<Model> load_with_cache(const tiny::Directory& directory, std::size_t states, std::size_t tokens) {
    auto backend = std::make_shared<CountingBackend>(make_cpu_backend(1));
    backend->cache = 2 * states * tokens * kD * sizeof(float);
    return load_model(directory.path(), std::move(backend), std::nullopt);
}

// A source's fused tokens on devices whose caches hold these numbers of states, and all.
void check_parts(const tiny::Directory& directory, std::initializer_list<std::size_t> caches) {
    const Ids source = tiny::some_ids(11, 1);
    const std::vector<std::span<const std::int32_t>> sources{source};
    const auto fused = [&](std::size_t states) {
        return load_with_cache(directory, states, source.size())->encode(sources, EncodeOutput::kFused)[0];
    };
    for (const std::size_t states : caches) CHECK(fused(states) == fused(100));
}

}  // namespace

TEST(mixing_some_layers_at_a_time_is_mixing_all_at_once) {
    tiny::Directory global, transformer;
    add_global_tensors(global);
    tiny::write_classifier(global, R"("mixer": {"type": "global"})");
    check_parts(global, {0, 1, 2});
    check_mix(*load_with_cache(global, 0, 1), [&](const std::vector<Row>&) { return global_logits(global); });
    tiny::write_classifier(transformer, tiny::transformer_mixer(transformer, 9), 9);
    check_parts(transformer, {0, 4, 5});
}

TEST(global_logits_that_overflow_are_refused) {
    tiny::Directory directory;
    add_global_tensors(directory);
    tiny::write_classifier(directory,
                           R"("mixer": {"type": "global", "temperature_base": 1e300, "temperature_factor": 1e300})");
    directory.set("mixer.layer_logits", {1e20f, 0.0f, -1e20f});
    directory.rewrite();
    CHECK_ERROR(tiny::load(directory), ErrorCode::kModelFile, "mixer.layer_logits: not finite");
    directory.set("mixer.layer_logits", {0.0f, 0.0f, 0.0f});
    directory.set("mixer.temperature", {3e38f});
    directory.rewrite();
    CHECK_ERROR(tiny::load(directory), ErrorCode::kModelFile, "mixer.layer_logits: not finite");
}

TEST(the_last_mixer_takes_the_last_layer) {
    tiny::Directory directory;
    tiny::write_classifier(directory, R"("mixer": {"type": "last"})");
    check_mix(*tiny::load(directory), [](const std::vector<Row>&) { return Row{-1e9, -1e9, 0.0}; });
}

TEST(a_classifier_pools_the_tokens_and_answers_an_empty_source_with_its_bias) {
    tiny::Directory directory;
    tiny::write_classifier(directory, tiny::transformer_mixer(directory));
    const auto model = tiny::load(directory);
    const Ids text = tiny::some_ids(7, 5), none;
    const std::vector<std::span<const std::int32_t>> sources{none, text};
    const auto found = model->classify(sources);
    const auto fused = model->encode(sources, EncodeOutput::kFused)[1];
    Row pooled(kD, 0.0);
    for (std::size_t i = 0; i < fused.size(); ++i) pooled[i % kD] += fused[i] / static_cast<double>(text.size());
    for (const auto& [index, input] : {std::pair{0, Row(kD, 0.0)}, std::pair{1, pooled}}) {
        const Row expected = softmax(linear(directory, "classifier", input));
        for (std::size_t c = 0; c < 2; ++c) {
            CHECK(std::abs(std::exp(found[static_cast<std::size_t>(index)][c]) - expected[c]) < 1e-5);
        }
    }
}

TEST(encoding_many_sources_in_pieces_changes_nothing) {
    tiny::Directory directory;
    tiny::write_classifier(directory, tiny::transformer_mixer(directory));
    const auto model = tiny::load(directory);
    std::vector<Ids> rows;
    // About 3,600 tokens: more than one pass takes.
    for (unsigned b = 0; b < 160; ++b) rows.push_back(tiny::some_ids(b % 3 == 0 ? 35 : b % 35, b));
    const std::vector<std::span<const std::int32_t>> sources(rows.begin(), rows.end());
    const auto states = model->encode(sources, EncodeOutput::kAll);
    const auto labels = model->classify(sources);
    REQUIRE(states.size() == rows.size() && labels.size() == rows.size());
    for (std::size_t b = 0; b < rows.size(); b += 7) {
        CHECK(states[b] == model->encode(std::span(sources).subspan(b, 1), EncodeOutput::kAll)[0]);
        CHECK(labels[b] == model->classify(std::span(sources).subspan(b, 1))[0]);
    }
}
