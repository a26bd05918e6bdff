// Rotary frequencies against transformers 5.23 (LlamaRotaryEmbedding(config).inv_freq, torch 2.13, float32), printed as
// hexadecimal floats. Its powf and ours may differ in the last bit.
#include <cmath>

#include "config_files.h"
#include "core/error.h"
#include "harness.h"

using namespace lrengine;
using namespace config_files;

namespace {

// Both spellings at once, as exported directories have them.
json with_rope(std::int64_t head_dim, double theta, const json& scaling, std::int64_t max_positions) {
    json fields = llama();
    json parameters = scaling;
    parameters["rope_theta"] = theta;
    fields.update({{"head_dim", head_dim},
                   {"rope_theta", theta},
                   {"rope_scaling", scaling},
                   {"rope_parameters", parameters},
                   {"max_position_embeddings", max_positions}});
    return fields;
}

LlmConfig read_llm(const json& fields) { return read(fusion(mt5(), fields)).fusion->llm; }

void check_close(const std::vector<float>& found, const std::vector<float>& expected) {
    REQUIRE(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
        if (std::fabs(found[i] - expected[i]) <= 1.3e-7f * expected[i]) continue;
        std::ostringstream text;
        text << std::hexfloat << "frequency " << i << ": found " << found[i] << ", expected " << expected[i];
        harness::report(__FILE__, __LINE__, text.str());
    }
}

const json kLlama3 = {{"rope_type", "llama3"},
                      {"factor", 32.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 8192}};
const json kYarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};

}  // namespace

TEST(rope_default) {
    const LlmConfig config = read_llm(llama());
    check_close(config.inv_freq, {0x1p+0f, 0x1.43d136p-2f, 0x1.99999ap-4f, 0x1.030dc6p-5f, 0x1.47ae14p-7f,
                                  0x1.9e7c7p-9f, 0x1.0624dep-10f, 0x1.4b96cp-12f});
    CHECK_EQUAL(config.attention_scaling, 1.0f);
}

TEST(rope_linear) {
    const LlmConfig config = read_llm(with_rope(16, 10000.0, {{"rope_type", "linear"}, {"factor", 4.0}}, 2048));
    check_close(config.inv_freq, {0x1p-2f, 0x1.43d136p-4f, 0x1.99999ap-6f, 0x1.030dc6p-7f, 0x1.47ae14p-9f,
                                  0x1.9e7c7p-11f, 0x1.0624dep-12f, 0x1.4b96cp-14f});
}

TEST(rope_llama3_of_llama_3_2_1b) {
    const LlmConfig config = read_llm(with_rope(64, 500000.0, kLlama3, 131072));
    check_close(config.inv_freq,
                {0x1p+0f,         0x1.53c38cp-1f,  0x1.c2ef78p-2f, 0x1.2b3dc6p-2f,  0x1.8d276p-3f,   0x1.078d4p-3f,
                 0x1.5dc95ap-4f,  0x1.d03ccep-5f,  0x1.34119p-5f,  0x1.98de92p-6f,  0x1.0f5386p-6f,  0x1.681adap-7f,
                 0x1.ddee9ep-8f,  0x1.3d2804p-8f,  0x1.a4ee4p-9f,  0x1.524f36p-10f, 0x1.c26c4p-12f,  0x1.9731eep-14f,
                 0x1.46831ap-16f, 0x1.b15902p-17f, 0x1.1f91fp-17f, 0x1.7da9e8p-18f, 0x1.fa8b86p-19f, 0x1.5024d6p-19f,
                 0x1.be2188p-20f, 0x1.280d96p-20f, 0x1.88ec2p-21f, 0x1.04be68p-21f, 0x1.5a0f4ep-22f, 0x1.cb4a9ap-23f,
                 0x1.30c94ep-23f, 0x1.94836p-24f});
    CHECK_EQUAL(config.attention_scaling, 1.0f);
}

TEST(rope_yarn) {
    const LlmConfig config = read_llm(with_rope(32, 1000000.0, kYarn, 131072));
    check_close(config.inv_freq,
                {0x1p+0f, 0x1.afd136p-2f, 0x1.6c310ep-3f, 0x1.33281ap-4f, 0x1.030dc6p-5f, 0x1.b4f7e4p-7f,
                 0x1.394170p-8f, 0x1.b32624p-10f, 0x1.205bcp-11f, 0x1.61beap-13f, 0x1.74eea6p-15f, 0x1.3a8748p-16f,
                 0x1.094564p-17f, 0x1.bf749ep-19f, 0x1.796182p-20f, 0x1.3e47c8p-21f});
    CHECK(std::fabs(config.attention_scaling - 1.138629436111989f) < 1e-6f);  // 0.1 ln 4 + 1
}

TEST(rope_in_either_spelling) {
    const json both = with_rope(64, 500000.0, kLlama3, 131072);
    const std::vector<float> expected = read_llm(both).inv_freq;
    CHECK(read_llm(without(both, "/rope_parameters")).inv_freq == expected);
    CHECK(read_llm(without(without(both, "/rope_theta"), "/rope_scaling")).inv_freq == expected);
    json old_name = without(both, "/rope_parameters");  // transformers before 4.43
    old_name["rope_scaling"].erase("rope_type");
    old_name["rope_scaling"]["type"] = "llama3";
    CHECK(read_llm(old_name).inv_freq == expected);
}

TEST(rope_refuses_spellings_that_differ) {
    const auto refused = [](const json& fields, const char* fragment) {
        CHECK_ERROR(read_llm(fields), ErrorCode::kModelFile, fragment);
    };
    refused(with(llama(), "/rope_theta", 20000.0), "llm.rope_parameters");
    refused(with(llama(), "/rope_scaling", kLlama3), "llm.rope_parameters");
    refused(without(without(llama(), "/rope_theta"), "/rope_parameters"), "llm.rope_theta: found nothing");
}

TEST(rope_refuses_types_that_it_cannot_compute) {
    for (const char* type : {"dynamic", "longrope", "mrope", "su", ""}) {
        const json fields = with_rope(16, 10000.0, {{"rope_type", type}, {"factor", 2.0}}, 2048);
        CHECK_ERROR(read_llm(fields), ErrorCode::kUnsupported, "rope_type: found");
    }
    const json partial = with_rope(16, 10000.0, {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}, 2048);
    CHECK_ERROR(read_llm(partial), ErrorCode::kUnsupported, "partial_rotary_factor");
}

TEST(rope_refuses_senseless_settings) {
    const auto refused = [](const std::string& name, const json& value, double theta = 10000.0) {
        const json fields = with_rope(16, theta, with(kLlama3, "/" + name, value), 2048);
        CHECK_ERROR(read_llm(fields), ErrorCode::kModelFile, "llm");
    };
    for (const char* name : {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
        for (const json& value : {json(0), json(-1.0), json("4")}) refused(name, value);
    }
    refused("high_freq_factor", 1.0);  // equal to low_freq_factor: divides by zero
    refused("factor", 1e300);          // frequencies of zero
    for (const double theta : {0.0, -1.0, 1.0, 1e31}) refused("factor", 2.0, theta);
}
