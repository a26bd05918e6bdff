// What a model refuses, and how it says so.
#include "core/error.h"
#include "harness.h"
#include "tiny_models.h"

using namespace lrengine;
using tiny::Ids;
using Spans = std::vector<std::span<const std::int32_t>>;

TEST(ids_outside_the_vocabulary_are_named) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto model = tiny::load(directory);
    const Ids good{5, 6}, high{5, 53}, low{-1}, start{0};
    CHECK_ERROR(model->encode(Spans{good, high}, EncodeOutput::kLast), ErrorCode::kInvalidArgument,
                "source 1: token 1 has id 53, expected 0 to 52");
    CHECK_ERROR(model->generator()->begin(tiny::one(low, {}, start), 1, 4), ErrorCode::kInvalidArgument,
                "source 0: token 0 has id -1");
    CHECK_ERROR(model->generator()->begin(tiny::one(good, {}, high), 1, 4), ErrorCode::kInvalidArgument,
                "forced tokens of source 0: token 1 has id 53");
    CHECK_ERROR(model->generator()->score(tiny::one(good, {}, start), Spans{high}), ErrorCode::kInvalidArgument,
                "target 0: token 1 has id 53");
}

TEST(sources_longer_than_the_positions_are_refused) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto model = tiny::load(directory);
    const Ids longest = tiny::some_ids(35, 1), longer = tiny::some_ids(36, 1), start{0};
    CHECK_EQUAL(model->encode(Spans{longest}, EncodeOutput::kLast)[0].size(), std::size_t{35 * 24});
    CHECK_ERROR(model->encode(Spans{longer}, EncodeOutput::kLast), ErrorCode::kInvalidArgument,
                "source 0 has 36 tokens, the encoder takes at most 35");
    CHECK_EQUAL(model->generator()->score(tiny::one(longest, {}, start), Spans{longest})[0].size(), std::size_t{35});
    CHECK_ERROR(model->generator()->score(tiny::one(longest, {}, start), Spans{longer}), ErrorCode::kInvalidArgument,
                "needs 36 positions");
}

TEST(results_that_are_not_finite_are_errors) {
    // Finite weights whose products overflow float32.
    const Ids ids{5, 6}, start{0};
    tiny::Directory swcm_directory, classifier_directory;
    const auto overflow = [](tiny::Directory& directory, const std::string& name, std::size_t size) {
        directory.set(name, std::vector<float>(size, 3e38f));
    };
    tiny::write_swcm(swcm_directory, {.tied_output = false});
    overflow(swcm_directory, "lm_head.weight", tiny::kVocab * tiny::kWidth);
    swcm_directory.rewrite();
    const auto swcm = tiny::load(swcm_directory);
    CHECK_ERROR(swcm->generator()->score(tiny::one(ids, {}, start), Spans{ids}), ErrorCode::kModelFile,
                "the model's logits are not finite");
    CHECK(!swcm->encode(Spans{ids}, EncodeOutput::kLast).empty());

    tiny::write_classifier(classifier_directory, R"("mixer": {"type": "last"})");
    overflow(classifier_directory, "classifier.weight", 2 * tiny::kWidth);
    classifier_directory.rewrite();
    CHECK_ERROR(tiny::load(classifier_directory)->classify(Spans{ids}), ErrorCode::kModelFile,
                "the model's logits are not finite");
    overflow(classifier_directory, "encoder.encoder.layer.2.output.LayerNorm.weight", tiny::kWidth);
    classifier_directory.rewrite();
    CHECK_ERROR(tiny::load(classifier_directory)->encode(Spans{ids}, EncodeOutput::kLast), ErrorCode::kModelFile,
                "the model's states are not finite");
}

TEST(a_prefix_that_fills_the_positions_still_predicts_a_token) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto model = tiny::load(directory);
    const Ids source{5, 6}, full = tiny::some_ids(35, 1), longer = tiny::some_ids(36, 1), next{9};
    const auto sources = tiny::one(source, {}, full);
    const auto state = model->generator()->begin(sources, 1, 4);
    CHECK_EQUAL(state->capacity(), 35);
    const std::vector<float> logits = tiny::row(tiny::prefill(*state), 0);
    CHECK(std::abs(tiny::log_prob(logits, 9) - model->generator()->score(sources, Spans{next})[0][0]) < 1e-5);
    CHECK_ERROR(model->generator()->begin(tiny::one(source, {}, longer), 1, 4), ErrorCode::kInvalidArgument,
                "needs 36 positions");
}

TEST(a_family_refuses_what_it_has_no_use_for) {
    tiny::Directory swcm_directory, fusion_directory;
    tiny::write_swcm(swcm_directory);
    tiny::write_fusion(fusion_directory);
    const auto swcm = tiny::load(swcm_directory), fusion = tiny::load(fusion_directory);
    const Ids ids{5, 6}, start{0}, none;
    CHECK_ERROR(swcm->generator()->begin(tiny::one(ids, ids, start), 1, 4), ErrorCode::kInvalidArgument, "no prompt");
    CHECK_ERROR(swcm->generator()->begin(tiny::one(ids, {}, none), 1, 4), ErrorCode::kInvalidArgument, "start token");
    CHECK_ERROR(swcm->generator()->begin({}, 1, 4), ErrorCode::kInvalidArgument, "no sources");
    CHECK_ERROR(swcm->generator()->begin(tiny::one(ids, {}, start), 0, 4), ErrorCode::kInvalidArgument, "at least 1");
    CHECK_ERROR(swcm->generator()->begin(tiny::one(ids, {}, start), 1, -1), ErrorCode::kInvalidArgument, "new tokens");
    CHECK_ERROR(swcm->generator()->begin(tiny::one(ids, {}, start), INT64_MAX / 2, 4), ErrorCode::kInvalidArgument,
                "too large");
    CHECK_ERROR(swcm->generator()->score(tiny::one(ids, {}, start), {}), ErrorCode::kInvalidArgument, "0 targets");
    CHECK_ERROR(swcm->encode({}, EncodeOutput::kWeights), ErrorCode::kInvalidArgument, "no mixer");
    CHECK_ERROR(swcm->classify({}), ErrorCode::kInvalidArgument, "classification head");
    const Ids high{41};
    CHECK_ERROR(fusion->generator()->begin(tiny::one(ids, high, none), 1, 4), ErrorCode::kInvalidArgument,
                "prompt of source 0: token 0 has id 41");
    CHECK(swcm->encode({}, EncodeOutput::kLast).empty());
}

TEST(a_row_longer_than_a_sliding_window_is_refused_not_approximated) {
    tiny::Directory directory;
    tiny::write_fusion(directory, 16);
    const auto model = tiny::load(directory);
    // BOS, 10 source tokens, end boundary, 4 of the prompt: 16 rows.
    const Ids source = tiny::some_ids(10, 1), prompt = tiny::some_ids(4, 2, tiny::kLlmVocab), none, one{5}, two{5, 6};
    CHECK_EQUAL(model->generator()->score(tiny::one(source, prompt, none), Spans{one})[0].size(), std::size_t{1});
    CHECK_ERROR(model->generator()->score(tiny::one(source, prompt, none), Spans{two}), ErrorCode::kUnsupported,
                "sliding window of 16");
    CHECK(model->generator()->begin(tiny::one(source, prompt, none), 1, 4) != nullptr);
    CHECK_ERROR(model->generator()->begin(tiny::one(source, prompt, one), 1, 4), ErrorCode::kUnsupported,
                "sliding window of 16");
}

TEST(a_file_with_tensors_of_another_model_is_refused) {
    tiny::Directory directory;
    tiny::transformer_mixer(directory);
    tiny::write_swcm(directory);
    CHECK_ERROR(tiny::load(directory), ErrorCode::kModelFile, "mixer.");
}
