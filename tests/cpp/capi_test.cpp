// The C interface: versions, opening, what an engine says of itself, structs of other versions.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "capi_testing.h"

using namespace capi_testing;

namespace {

TEST(versions_agree) {
    CHECK_EQUAL(lrengine_abi_version(), LRENGINE_ABI_VERSION);
    CHECK_EQUAL(std::string(lrengine_version()), std::string("0.1.0"));
    for (lrengine_status status = LRENGINE_OK; status <= LRENGINE_INTERNAL; ++status) {
        CHECK(std::strcmp(lrengine_status_name(status), "unknown status") != 0);
    }
    CHECK_EQUAL(std::string(lrengine_status_name(1000)), std::string("unknown status"));
}

TEST(what_is_not_said_is_as_in_the_engine) {
    const lrengine_generate_options unsaid = LRENGINE_GENERATE_OPTIONS_INIT;
    CHECK(capi_models::are_the_engines_defaults(unsaid));
    lrengine_generate_options other = LRENGINE_GENERATE_OPTIONS_INIT;
    other.top_p = 0.5;
    CHECK(!capi_models::are_the_engines_defaults(other));
}

TEST(info_describes_the_model) {
    const Model swcm(Model::Kind::kSwcm), classifier(Model::Kind::kClassifier);
    const Opened opened(swcm), labelled(classifier);
    REQUIRE(opened.status == LRENGINE_OK && labelled.status == LRENGINE_OK);
    lrengine_engine_info info = LRENGINE_ENGINE_INFO_INIT;
    CHECK_EQUAL(lrengine_get_info(opened.engine, &info), LRENGINE_OK);
    CHECK_EQUAL(std::string(info.device), std::string("cpu"));
    CHECK_EQUAL(std::string(info.dtype), std::string("float32"));
    CHECK_EQUAL(std::string(info.model_type), std::string("swcm"));
    CHECK_EQUAL(info.source_vocabulary, 53);
    CHECK_EQUAL(info.target_vocabulary, 53);
    CHECK_EQUAL(info.max_source_length, 35);
    CHECK_EQUAL(info.encoder_layers, 3);
    CHECK_EQUAL(info.encoder_width, 24);
    CHECK_EQUAL(info.labels, 0u);
    CHECK(info.end_tokens == 1 && info.end_token_ids[0] == 2);
    CHECK_EQUAL(info.reads_source_text, 0);
    CHECK(lrengine_label(opened.engine, 0) == nullptr);

    CHECK_EQUAL(lrengine_get_info(labelled.engine, &info), LRENGINE_OK);
    CHECK_EQUAL(info.labels, 2u);
    CHECK_EQUAL(info.target_vocabulary, 0);
    CHECK_EQUAL(std::string(lrengine_label(labelled.engine, 1)), std::string("yes"));
    CHECK(lrengine_label(labelled.engine, 2) == nullptr);
}

TEST(opening_fails_with_a_reason) {
    lrengine_engine* engine = nullptr;
    CHECK_FAILS(lrengine_open("/nowhere/at/all", nullptr, &engine), LRENGINE_MODEL_FILE, "/nowhere/at/all");
    CHECK_FAILS(lrengine_open(nullptr, nullptr, &engine), LRENGINE_INVALID_ARGUMENT, "directory");
    const Model model(Model::Kind::kSwcm);
    CHECK_FAILS(lrengine_open(model.path().c_str(), nullptr, nullptr), LRENGINE_INVALID_ARGUMENT, "engine");
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.device = "tpu";
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "tpu");
    options.device = "cpu";
    options.threads = -1;
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "threads");
    options.threads = 1;
    options.dtype = "int3";
    CHECK_FAILS(lrengine_open(model.path().c_str(), &options, &engine), LRENGINE_INVALID_ARGUMENT, "int3");
    CHECK(engine == nullptr);
}

// With two threads tokenizers are read beside the weights, with one after them.
lrengine_status open_with(const Model& model, std::int32_t threads) {
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.threads = threads;
    lrengine_engine* engine = nullptr;
    const lrengine_status status = lrengine_open(model.path().c_str(), &options, &engine);
    lrengine_close(engine);
    return status;
}

TEST(weights_error_goes_before_the_tokenizers) {
    for (const std::int32_t threads : {1, 2}) {
        Model model(Model::Kind::kSwcm);
        model.add_tokenizer();
        CHECK_EQUAL(open_with(model, threads), LRENGINE_OK);
        std::ofstream(std::filesystem::path(model.path()) / "tokenizer.json") << "{";
        CHECK_FAILS(open_with(model, threads), LRENGINE_MODEL_FILE, "tokenizer.json");
        std::ofstream(std::filesystem::path(model.path()) / "model.safetensors") << "short";
        CHECK_FAILS(open_with(model, threads), LRENGINE_MODEL_FILE, "model.safetensors");
    }
}

TEST(weights_can_be_waited_for) {
    const Model model(Model::Kind::kSwcm);
    CHECK_EQUAL(lrengine_check_weights(Opened(model).engine, nullptr), LRENGINE_OK);
    CHECK_FAILS(lrengine_check_weights(nullptr, nullptr), LRENGINE_INVALID_ARGUMENT, "engine");
    // The last four bytes of the file are a float of the tensor that lies last.
    std::fstream file(std::filesystem::path(model.path()) / "model.safetensors",
                      std::ios::binary | std::ios::in | std::ios::out);
    const std::uint32_t nan = 0x7fc00000;
    file.seekp(-4, std::ios::end);
    file.write(reinterpret_cast<const char*>(&nan), sizeof nan);
    file.close();
    lrengine_engine* engine = nullptr;
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.device = "cpu";
    REQUIRE(lrengine_open(model.path().c_str(), &options, &engine) == LRENGINE_OK);
    for (int call = 0; call < 2; ++call) {
        CHECK_FAILS(lrengine_check_weights(engine, nullptr), LRENGINE_MODEL_FILE, "NaN or Inf");
    }
    lrengine_limits wrong = LRENGINE_LIMITS_INIT;
    wrong.struct_size = 1;
    CHECK_FAILS(lrengine_check_weights(engine, &wrong), LRENGINE_INVALID_ARGUMENT, "limits");
    lrengine_close(engine);
}

TEST(only_a_fusion_model_reads_the_llms_tokenizer) {
    for (const std::int32_t threads : {1, 2}) {
        for (const auto kind : {Model::Kind::kSwcm, Model::Kind::kFusion}) {
            const Model model(kind);
            const auto folder = std::filesystem::path(model.path()) / "llm";
            std::filesystem::create_directories(folder);
            std::ofstream(folder / "tokenizer.json") << "{";
            const bool fusion = kind == Model::Kind::kFusion;
            CHECK_EQUAL(open_with(model, threads), fusion ? LRENGINE_MODEL_FILE : LRENGINE_OK);
        }
    }
}

// A program built against an older header has less, one built against a newer one more.
TEST(structs_of_other_versions_are_understood) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    struct Later {
        lrengine_memory known;
        std::uint64_t added;
    } later = {LRENGINE_MEMORY_INIT, 5};
    later.known.struct_size = sizeof(Later);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &later.known), LRENGINE_OK);
    CHECK(later.known.weight_bytes > 0 && later.added == 0 && later.known.struct_size == sizeof(Later));
    lrengine_memory earlier = {offsetof(lrengine_memory, request_bytes), 0, 77, 78};
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &earlier), LRENGINE_OK);
    CHECK(earlier.weight_bytes == later.known.weight_bytes && earlier.request_bytes == 77);
    lrengine_memory halved = {sizeof(lrengine_memory) - 4, 0, 0, 0};
    CHECK_FAILS(lrengine_get_memory(opened.engine, &halved), LRENGINE_INVALID_ARGUMENT, "struct_size");
    lrengine_memory blank = {};
    CHECK_FAILS(lrengine_get_memory(opened.engine, &blank), LRENGINE_INVALID_ARGUMENT, "struct_size is 0");

    struct LaterOptions {
        lrengine_generate_options known;
        std::uint64_t added;
    } options = {most(3), 0};
    options.known.struct_size = sizeof(LaterOptions);
    struct LaterInput {
        lrengine_input known;
        std::uint64_t added;
    };
    const auto first = ids(7, 1), second = ids(4, 2);
    std::vector<LaterInput> inputs = {{source(first), 0}, {source(second), 0}};
    for (LaterInput& input : inputs) input.known.struct_size = sizeof(LaterInput);
    lrengine_generations* answers = nullptr;
    REQUIRE(lrengine_generate(opened.engine, &inputs[0].known, 2, &options.known, nullptr, &answers) == LRENGINE_OK);
    CHECK(tokens_of(get(answers, 1, 0)) == model.greedy(second, 3).tokens);
    lrengine_generations_free(answers);
    options.added = 1;
    CHECK_FAILS(lrengine_generate(opened.engine, &inputs[0].known, 2, &options.known, nullptr, &answers),
                LRENGINE_INVALID_ARGUMENT, "does not have");
    inputs[1].known.struct_size = sizeof(lrengine_input);
    CHECK_FAILS(lrengine_generate(opened.engine, &inputs[0].known, 2, nullptr, nullptr, &answers),
                LRENGINE_INVALID_ARGUMENT, "inputs[1]");
}

TEST(memory_of_requests_is_counted_and_given_back) {
    const Model model(Model::Kind::kSwcm);
    const Opened opened(model);
    lrengine_memory memory = LRENGINE_MEMORY_INIT;
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK(memory.weight_bytes > 0);
    CHECK_EQUAL(memory.request_bytes, 0u);
    const auto values = ids(7, 1);
    const lrengine_input input = source(values);
    lrengine_session* session = nullptr;
    REQUIRE(lrengine_session_start(opened.engine, &input, 1, nullptr, &session) == LRENGINE_OK);
    std::int32_t done = 0;
    CHECK_EQUAL(lrengine_session_step(session, &done), LRENGINE_OK);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK(memory.request_bytes > 0);
    const std::uint64_t peak = memory.peak_request_bytes;
    CHECK(peak >= memory.request_bytes);
    lrengine_session_free(session);
    CHECK_EQUAL(lrengine_get_memory(opened.engine, &memory), LRENGINE_OK);
    CHECK_EQUAL(memory.request_bytes, 0u);
    CHECK_EQUAL(memory.peak_request_bytes, peak);
}

TEST(free_and_close_accept_null) {
    lrengine_close(nullptr);
    lrengine_session_free(nullptr);
    lrengine_session_cancel(nullptr);
    lrengine_generations_free(nullptr);
    lrengine_arrays_free(nullptr);
    lrengine_cancellation_request(nullptr);
    lrengine_cancellation_free(nullptr);
    CHECK_EQUAL(lrengine_generations_inputs(nullptr), 0u);
    CHECK_EQUAL(lrengine_arrays_count(nullptr), 0u);
}

}  // namespace
