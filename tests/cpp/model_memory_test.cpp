// What decoding allocates, and what tied weights share.
#include "core/error.h"
#include "counting_backend.h"
#include "harness.h"
#include "models/swcm.h"
#include "tiny_models.h"

using namespace lrengine;
using tiny::Ids;

TEST(nothing_is_allocated_after_the_first_step) {
    for (const bool fusion : {false, true}) {
        tiny::Directory directory;
        fusion ? tiny::write_fusion(directory) : tiny::write_swcm(directory);
        const auto backend = std::make_shared<CountingBackend>(make_cpu_backend(1));
        const auto model = load_model(directory.path(), backend, std::nullopt);
        const Ids source = tiny::some_ids(20, 1), forced{0};
        const std::vector<GenerationSource> sources = tiny::one(source, {}, forced);
        const auto state = model->generator()->begin(sources, 3, 10);
        state->prefill({});
        auto length = static_cast<std::int32_t>(state->prefill_length(0));
        const Ids history(static_cast<std::size_t>(3 * state->capacity()), 0);
        const auto step = [&](std::size_t rows) {
            const Ids tokens{4, 5, 6}, slots{0, 1, 2}, all{0, 0, 0}, lengths{length, length, length};
            const auto first = [&](const Ids& values) { return std::span(values).first(rows); };
            const auto table = std::span(history).first(rows * static_cast<std::size_t>(state->capacity()));
            const void* logits =
                tiny::step(*state, {first(tokens), first(slots), first(all), first(lengths), table}).data;
            ++length;
            return logits;
        };
        const void* memory = step(3);
        const std::size_t after_first = backend->allocations;
        CHECK(step(3) == memory);
        for (const std::size_t rows : {3, 2, 1}) step(rows);
        CHECK_EQUAL(backend->allocations, after_first);
    }
}

namespace {

// What classifying about 2,000 tokens allocates with an encoder of this many layers under the global mixer, on a device
// with a cache of this size.
std::size_t bytes_of_mixing(std::int64_t layers, std::size_t cache) {
    tiny::Directory directory;
    directory.vector("mixer.layer_logits", layers);
    directory.vector("mixer.temperature", 1);
    tiny::write_classifier(directory, R"("mixer": {"type": "global"})", layers);
    const auto backend = std::make_shared<CountingBackend>(make_cpu_backend(1));
    backend->cache = cache;
    const auto model = load_model(directory.path(), backend, std::nullopt);
    const std::size_t before = backend->allocated_bytes;
    const Ids source = tiny::some_ids(34, 1);
    const std::vector<std::span<const std::int32_t>> sources(60, source);
    CHECK_EQUAL(model->classify(sources).size(), sources.size());
    return backend->allocated_bytes - before;
}

}  // namespace

TEST(the_global_mixer_needs_no_more_memory_for_a_deeper_encoder) {
    constexpr std::size_t kAll = std::size_t{1} << 30, kTwoStates = 4 * 60 * 34 * tiny::kWidth * sizeof(float);
    for (const std::size_t cache : {std::size_t{0}, kTwoStates}) {
        CHECK_EQUAL(bytes_of_mixing(12, cache), bytes_of_mixing(3, cache));
    }
    CHECK(bytes_of_mixing(12, kAll) > bytes_of_mixing(3, kAll));  // all in the cache: all kept
}

TEST(tied_layers_use_the_encoders_own_weights) {
    tiny::Directory tied_directory, own_directory;
    tiny::write_swcm(tied_directory, {.sharing = "tied"});
    tiny::write_swcm(own_directory);
    const auto tied = tiny::load(tied_directory), own = tiny::load(own_directory);
    const auto layer = [](const Model& model, std::size_t index) {
        return dynamic_cast<const SwcmModel&>(model).decoder().layer(index);
    };
    // Decoder layer 3 is the custom layer of encoder layer 2: its neighbour 2 is a normal one.
    const SwcmLayer shared = layer(*tied, 3), separate = layer(*own, 3);
    CHECK(shared.custom && !layer(*tied, 2).custom);
    CHECK(shared.self_attention.query.weight.data == shared.cross_attention.query.weight.data);
    CHECK(shared.ffn1.in.weight.data == shared.ffn.in.weight.data);
    CHECK(separate.self_attention.query.weight.data != separate.cross_attention.query.weight.data);
    CHECK(shared.norms[0].weight.data != shared.norms[1].weight.data);
    const std::size_t projections = 4 * (tiny::kWidth * tiny::kWidth + tiny::kWidth);
    const std::size_t ffn = 2 * tiny::kWidth * tiny::kFfn + tiny::kWidth + tiny::kFfn;
    CHECK_EQUAL(own->weight_bytes() - tied->weight_bytes(), 3 * 2 * (projections + ffn) * sizeof(float));
}

// On a device that makes products of one weight together: in the encoder, and once more for targets and sources.
TEST(tied_keys_and_values_of_sources_are_made_with_the_targets) {
    for (const bool tied : {true, false}) {
        tiny::Directory directory;
        tiny::write_swcm(directory, {.sharing = tied ? "tied" : "init"});
        const auto backend = std::make_shared<CountingBackend>(make_cpu_backend(1));
        const auto model = load_model(directory.path(), backend, std::nullopt);
        const auto check = [&] {
            for (std::size_t i = 0; i < 4; ++i) {
                const SwcmLayer layer = dynamic_cast<const SwcmModel&>(*model).decoder().layer(i);
                const bool shares = tied && layer.custom;
                for (const AttentionWeights* weights : {&layer.self_attention, &layer.cross_attention}) {
                    CHECK_EQUAL(backend->readings[weights->key.weight.data], shares ? 2 : 1);
                    CHECK_EQUAL(backend->readings[weights->value.weight.data], shares ? 2 : 1);
                }
            }
            backend->readings.clear();
        };
        const Ids source = tiny::some_ids(20, 1), forced{0, 4}, target = tiny::some_ids(5, 2);
        const auto state = model->generator()->begin(tiny::one(source, {}, forced), 1, 10);
        state->prefill({});
        check();
        const std::vector<std::span<const std::int32_t>> targets{target};
        model->generator()->score(tiny::one(source, {}, forced), targets);
        check();
    }
}

TEST(int8_weights_take_about_a_quarter_and_stay_close) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto exact = tiny::load(directory), small = tiny::load(directory, DType::kInt8);
    CHECK(small->weight_dtype() == DType::kInt8);
    CHECK(small->weight_bytes() * 2 < exact->weight_bytes());
    const Ids source = tiny::some_ids(12, 4);
    const std::vector<std::span<const std::int32_t>> sources{source};
    const auto a = exact->encode(sources, EncodeOutput::kLast)[0], b = small->encode(sources, EncodeOutput::kLast)[0];
    double dot = 0.0, aa = 0.0, bb = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        dot += a[i] * b[i];
        aa += a[i] * a[i];
        bb += b[i] * b[i];
    }
    CHECK(dot / std::sqrt(aa * bb) > 0.999);
}
