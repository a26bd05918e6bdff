// The C interface: score, classify, encode.
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "capi_testing.h"

using namespace capi_testing;

namespace {

TEST(score_classify_and_encode_give_arrays) {
    const Model model(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(model), labelled(classifier);
    const auto first = ids(7, 1), target = ids(4, 9), other = ids(3, 5);
    std::vector<lrengine_input> inputs = {source(first), source(other)};
    inputs[0].target = inputs[1].target = piece(target);
    lrengine_arrays* arrays = nullptr;
    lrengine_array array = LRENGINE_ARRAY_INIT;
    const auto values = [&array] { return std::vector<float>(array.data, array.data + array.size); };

    // With limits and without: the cuts change nothing.
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    limits.deadline_microseconds = INT64_C(60000000);
    const lrengine_limits* const both[] = {nullptr, &limits};
    for (const lrengine_limits* ends : both) {
        REQUIRE(lrengine_score(opened.engine, inputs.data(), 2, ends, &arrays) == LRENGINE_OK);
        CHECK_EQUAL(lrengine_arrays_count(arrays), 2u);
        REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
        CHECK(values() == model.score(first, target));
        CHECK_FAILS(lrengine_arrays_get(arrays, 2, &array), LRENGINE_INVALID_ARGUMENT, "index: found 2");
        lrengine_arrays_free(arrays);

        REQUIRE(lrengine_encode(opened.engine, inputs.data(), 2, LRENGINE_ENCODE_LAST, ends, &arrays) == LRENGINE_OK);
        REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
        CHECK(array.dimensions == 2 && array.shape[0] == 7 && array.shape[1] == 24);
        CHECK(values() == model.encode(first));
        lrengine_arrays_free(arrays);

        REQUIRE(lrengine_classify(labelled.engine, inputs.data(), 2, nullptr, 0, ends, &arrays) == LRENGINE_OK);
        REQUIRE(lrengine_arrays_get(arrays, 1, &array) == LRENGINE_OK);
        const std::vector<float> expected = classifier.classify(other);
        CHECK(array.size == 2 && std::abs(array.data[0] - std::exp(expected[0])) < 1e-6f);
        lrengine_arrays_free(arrays);
    }
    REQUIRE(lrengine_encode(opened.engine, inputs.data(), 1, LRENGINE_ENCODE_ALL, nullptr, &arrays) == LRENGINE_OK);
    REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
    CHECK(array.dimensions == 3 && array.shape[0] == 3 && array.shape[1] == 7 && array.shape[2] == 24);
    lrengine_arrays_free(arrays);
    CHECK_FAILS(lrengine_encode(opened.engine, inputs.data(), 1, 9, nullptr, &arrays), LRENGINE_INVALID_ARGUMENT,
                "output: found 9");
}

TEST(labels_of_a_generating_model_share_the_probability) {
    const Model model(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(model), labelled(classifier);
    const auto values = ids(7, 1), yes = ids(2, 8), no = ids(3, 9);
    const lrengine_input input = source(values);
    const std::vector<lrengine_piece> labels = {piece(yes), piece(no), piece(yes)};
    lrengine_arrays* arrays = nullptr;
    REQUIRE(lrengine_classify(opened.engine, &input, 1, labels.data(), 2, nullptr, &arrays) == LRENGINE_OK);
    lrengine_array array = LRENGINE_ARRAY_INIT;
    REQUIRE(lrengine_arrays_get(arrays, 0, &array) == LRENGINE_OK);
    const auto total = [](const std::vector<float>& row) { return std::accumulate(row.begin(), row.end(), 0.0); };
    const double odds = std::exp(total(model.score(values, yes)) - total(model.score(values, no)));
    CHECK(std::abs(array.data[0] / array.data[1] / odds - 1.0) < 1e-4);
    CHECK(std::abs(array.data[0] + array.data[1] - 1.0f) < 1e-6f);
    lrengine_arrays_free(arrays);
    CHECK_FAILS(lrengine_classify(opened.engine, &input, 1, labels.data(), 3, nullptr, &arrays),
                LRENGINE_INVALID_ARGUMENT, "labels[2]");
    CHECK_FAILS(lrengine_classify(opened.engine, &input, 1, nullptr, 0, nullptr, &arrays), LRENGINE_INVALID_ARGUMENT,
                "labels: found none");
    CHECK_FAILS(lrengine_classify(labelled.engine, &input, 1, labels.data(), 2, nullptr, &arrays),
                LRENGINE_INVALID_ARGUMENT, "has its own");
}

}  // namespace
