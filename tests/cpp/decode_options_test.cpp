#include <limits>

#include "core/error.h"
#include "decode/options.h"
#include "harness.h"

namespace {

using lrengine::ErrorCode;
using lrengine::GenerationOptions;

constexpr std::int64_t kVocab = 100;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename T>
void refused(T GenerationOptions::* member, T value, const char* fragment) {
    GenerationOptions options;
    options.*member = value;
    CHECK_ERROR(lrengine::validate(options, kVocab), ErrorCode::kInvalidArgument, fragment);
}

}  // namespace

TEST(defaults_are_valid) { lrengine::validate(GenerationOptions{}, kVocab); }

TEST(counts_out_of_range_are_refused_by_name) {
    using O = GenerationOptions;
    refused<std::int64_t>(&O::num_beams, 0, "num_beams: found 0");
    refused<std::int64_t>(&O::num_beams, -3, "num_beams: found -3");
    refused<std::int64_t>(&O::num_beams, kVocab + 1, "num_beams: found 101");
    refused<std::int64_t>(&O::max_new_tokens, 0, "max_new_tokens: found 0");
    refused<std::int64_t>(&O::min_new_tokens, 257,
                          "min_new_tokens: found 257, expected at most max_new_tokens, which is 256");
    refused<std::int64_t>(&O::min_new_tokens, -1, "min_new_tokens");
    refused<std::int64_t>(&O::num_return_sequences, 2, "num_return_sequences: found 2");
    refused<std::int64_t>(&O::num_return_sequences, 0, "num_return_sequences: found 0");
    refused<std::int64_t>(&O::no_repeat_ngram_size, -1, "no_repeat_ngram_size");
    refused<std::int64_t>(&O::top_k, -1, "top_k");
}

TEST(numbers_out_of_range_and_nan_are_refused_by_name) {
    using O = GenerationOptions;
    for (const double value : {0.0, -1.0, 1.5, kNan}) refused(&O::top_p, value, "top_p");
    for (const double value : {0.0, -1.0, kNan, kInfinity}) {
        refused(&O::temperature, value, "temperature");
        refused(&O::repetition_penalty, value, "repetition_penalty");
    }
    for (const double value : {1e-50, 1e50}) refused(&O::temperature, value, "temperature");  // 0 and Inf as float32
    for (const double value : {kNan, kInfinity, -kInfinity}) refused(&O::length_penalty, value, "length_penalty");
}

TEST(suppressed_ids_must_exist_and_leave_a_token) {
    GenerationOptions options;
    options.suppress_tokens = {5, 100};
    CHECK_ERROR(lrengine::validate(options, kVocab), ErrorCode::kInvalidArgument, "suppress_tokens: found 100");
    options.suppress_tokens = {0, 1, 1};
    CHECK_ERROR(lrengine::validate(options, 2), ErrorCode::kInvalidArgument, "whole vocabulary");
    lrengine::validate(options, 3);
}

TEST(samples_may_outnumber_beams_and_top_k_the_vocabulary) {
    GenerationOptions options;
    options.do_sample = true;
    options.num_return_sequences = 4;
    options.top_k = kVocab * 2;
    lrengine::validate(options, kVocab);
}
