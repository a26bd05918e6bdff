// config.json that is missing, broken, or lies.
#include <functional>

#include "config_files.h"
#include "core/error.h"
#include "harness.h"

using namespace lrengine;
using namespace config_files;

namespace {

void refused(const json& fields, const std::string& fragment) {
    CHECK_ERROR(read(fields), ErrorCode::kModelFile, fragment);
}

void unsupported(const json& fields, const std::string& fragment) {
    CHECK_ERROR(read(fields), ErrorCode::kUnsupported, fragment);
}

// Integer sizes of each model type, by JSON pointer.
void for_every_size(const std::function<void(const json&, const std::string&)>& body) {
    for (const char* name : {"num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                             "vocab_size", "type_vocab_size", "max_position_embeddings"}) {
        body(classifier(), std::string("/encoder/") + name);
    }
    for (const char* name : {"num_layers", "d_model", "num_heads", "d_kv", "d_ff", "vocab_size",
                             "relative_attention_num_buckets", "relative_attention_max_distance"}) {
        body(classifier(mt5()), std::string("/encoder/") + name);
    }
    for (const char* name : {"encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim", "vocab_size",
                             "max_position_embeddings"}) {
        body(classifier(m2m100()), std::string("/encoder/") + name);
    }
    for (const char* name : {"num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads",
                             "head_dim", "intermediate_size", "vocab_size", "max_position_embeddings"}) {
        body(fusion(), std::string("/llm/") + name);
    }
}

std::string dotted(std::string place) {
    for (char& letter : place) letter = letter == '/' ? '.' : letter;
    return place.substr(1);
}

}  // namespace

TEST(config_refuses_a_file_that_is_missing_or_no_json) {
    const model_files::TemporaryDirectory directory;
    CHECK_ERROR(read_config(directory.path()), ErrorCode::kModelFile, "config.json: found No such file");
    CHECK_ERROR(read_config(directory.path() / "none"), ErrorCode::kModelFile, "config.json");
    std::filesystem::create_directory(directory.path() / "config.json");
    CHECK_ERROR(read_config(directory.path()), ErrorCode::kModelFile, "found a directory");
    for (const char* text : {"", "{", "null", "[]", "3", "\"swcm\"", "{} {}", "\xff\xfe{}", "{\"model_type\": NaN}"}) {
        CHECK_ERROR(read_text(text), ErrorCode::kModelFile, "config.json");
    }
    CHECK_ERROR(read_text(std::string(200'000, '[')), ErrorCode::kModelFile, "nesting");
    CHECK_ERROR(read_text(std::string(20'000'000, ' ')), ErrorCode::kModelFile, "bytes of JSON");
}

TEST(config_refuses_unknown_models) {
    for (const char* type : {"gpt2", "", "SWCM", "swcm "})
        unsupported(with(swcm(), "/model_type", type), "model_type: found");
    refused(with(swcm(), "/model_type", 3), "model_type");
    refused(without(swcm(), "/model_type"), "model_type: found nothing");
    unsupported(with(classifier(), "/encoder/model_type", "electra"), "encoder.model_type");
    unsupported(with(fusion(), "/llm/model_type", "gemma"), "llm.model_type");
    unsupported(with(swcm(), "/encoder", mt5()), "encoder.model_type");
    unsupported(with(fusion(), "/mixer/type", "mean"), "mixer.type");
    unsupported(with(fusion(), "/mapper/type", "conv"), "mapper.type");
    unsupported(with(classifier(), "/pooling", "max"), "pooling");
    unsupported(with(classifier(), "/encoder/hidden_act", "quick_gelu"), "hidden_act");
    unsupported(with(classifier(mt5()), "/encoder/feed_forward_proj", "gated-maxout"), "feed_forward_proj");
    unsupported(with(classifier(), "/encoder/position_embedding_type", "relative_key"), "position_embedding_type");
    unsupported(with(classifier(), "/encoder/is_decoder", true), "is_decoder");
    unsupported(with(swcm(), "/norm_style", "pre"), "norm_style");
    unsupported(with(swcm(), "/sharing", "half"), "sharing");
    unsupported(with(swcm(), "/quantization", {{"dtype", "int2"}, {"scheme", "groups"}}), "quantization.dtype");
    unsupported(with(swcm(), "/quantization", {{"dtype", "int4"}, {"scheme", "groups"}}), "quantization.scheme");
    const auto groups_of = [](const json& size) {
        return with(swcm(), "/quantization", {{"dtype", "int4"}, {"scheme", "group-symmetric"}, {"group_size", size}});
    };
    for (const int size : {1, 16, 48, 63, 256}) unsupported(groups_of(size), "quantization.group_size");
    for (const json& size : {json(0), json(-64), json(1e9), json(64.0), json("64"), json(nullptr)}) {
        refused(groups_of(size), "quantization.group_size");
    }
    unsupported(with(swcm(), "/quantization", {{"dtype", "int8"}, {"scheme", "x"}}), "quantization.scheme");
}

TEST(config_refuses_every_missing_field) {
    const json optional = {"position_embedding_type", "is_decoder",         "rope_scaling",
                           "rope_parameters",         "rope_theta",         "head_dim",
                           "num_key_value_heads",     "tie_word_embeddings"};
    const auto sweep = [&](const json& fields, const std::string& part) {
        for (const auto& [name, value] : fields.at(json::json_pointer(part)).items()) {
            const std::string place = part + "/" + name;
            if (part == "/encoder" && (name == "tie_word_embeddings" || name == "pad_token_id")) continue;
            if (std::find(optional.begin(), optional.end(), name) != optional.end() && name != "tie_word_embeddings")
                continue;
            refused(without(fields, place), dotted(place) + ": found nothing");
        }
    };
    sweep(swcm(), "");
    sweep(classifier(), "/encoder");
    sweep(classifier(mt5()), "/encoder");
    sweep(classifier(m2m100()), "/encoder");
    sweep(fusion(), "/llm");
    refused(without(classifier(), "/encoder/pad_token_id"), "encoder.pad_token_id");
    for (const char* name : {"encoder", "llm", "mixer", "mapper", "eos_token_id", "bos_token_id"}) {
        refused(without(fusion(), std::string("/") + name), std::string(name) + ": found nothing");
    }
    for (const char* name : {"encoder", "mixer", "id2label", "pooling"}) {
        refused(without(classifier(), std::string("/") + name), std::string(name) + ": found nothing");
    }
}

TEST(config_refuses_wrong_types) {
    for_every_size([](const json& fields, const std::string& place) {
        for (const json& value : {json("64"), json(64.0), json(true), json::array({64}), json::object()}) {
            refused(with(fields, place, value), dotted(place) + ": found");
        }
    });
    for (const char* name : {"normal_after_last", "tie_word_embeddings", "output_bias"}) {
        for (const json& value : {json(1), json("true"), json(nullptr)}) {
            refused(with(swcm(), std::string("/") + name, value), name);
        }
    }
    for (const char* name : {"encoder", "llm", "mixer", "mapper"}) {
        for (const json& value : {json(1), json("x"), json(nullptr), json::array()}) {
            refused(with(fusion(), std::string("/") + name, value), name);
        }
    }
}

TEST(config_refuses_absurd_sizes) {
    for_every_size([](const json& fields, const std::string& place) {
        for (const std::int64_t value :
             {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'000'000'000}, INT64_MAX, INT64_MIN}) {
            refused(with(fields, place, value), dotted(place) + ": found");
        }
        refused(with(fields, place, UINT64_MAX), dotted(place) + ": found");
    });
    refused(with(swcm(), "/normal_layer_interval", -1), "normal_layer_interval");
    refused(with(swcm(), "/normal_layer_interval", 1'000'000'000), "normal_layer_interval");
    // Each alone is fine, but the table of positions that they ask for is not in the file.
    refused(with(with(classifier(m2m100()), "/encoder/d_model", 65536), "/encoder/max_position_embeddings", 65536),
            "max_position_embeddings");
}

TEST(config_refuses_sizes_that_contradict_each_other) {
    refused(with(classifier(), "/encoder/num_attention_heads", 5), "a divisor of the width 72");
    refused(with(classifier(m2m100()), "/encoder/encoder_attention_heads", 5), "a divisor of the width 64");
    refused(with(fusion(), "/llm/num_key_value_heads", 3), "a divisor of the 4 heads");
    refused(with(fusion(), "/llm/num_key_value_heads", 8), "num_key_value_heads");
    refused(with(fusion(), "/llm/head_dim", 15), "an even number");
    refused(with(with(fusion(), "/llm/head_dim", nullptr), "/llm/num_attention_heads", 6), "divisor of the width 64");
    refused(with(swcm(), "/vocab_size", 330), "encoder.vocab_size, 331");
    refused(with(classifier(), "/encoder/max_position_embeddings", 2), "more than pad_token_id + 1");
    refused(with(classifier(mt5()), "/encoder/relative_attention_num_buckets", 33), "even");
    refused(with(classifier(mt5()), "/encoder/relative_attention_max_distance", 8), "relative_attention_max_distance");
    json qwen = fusion(mt5(), qwen2());
    qwen["llm"].update({{"use_sliding_window", true}, {"sliding_window", 8}, {"layer_types", {"full_attention"}}});
    refused(qwen, "one a layer");
    refused(without(fusion(mt5(), with(qwen2(), "/model_type", "qwen3")), "/llm/head_dim"), "llm.");
}

TEST(config_refuses_epsilons_that_are_no_positive_numbers) {
    const json bad = {0, -1e-5, "1e-5", nullptr, true, 1e-60, 2.0};
    for (const json& value : bad) {
        refused(with(classifier(), "/encoder/layer_norm_eps", value), "layer_norm_eps");
        refused(with(classifier(mt5()), "/encoder/layer_norm_epsilon", value), "layer_norm_epsilon");
        refused(with(fusion(), "/llm/rms_norm_eps", value), "rms_norm_eps");
        refused(with(swcm(), "/decoder_layer_norm_eps", value), "decoder_layer_norm_eps");
    }
    // NaN and Infinity as Python's json writes them, and a number past double's range.
    for (const char* text : {"NaN", "Infinity", "-Infinity", "1e999"}) {
        std::string config = with(swcm(), "/decoder_layer_norm_eps", "EPS").dump();
        config.replace(config.find("\"EPS\""), 5, text);
        CHECK_ERROR(read_text(config), ErrorCode::kModelFile, "config.json");
    }
}

TEST(config_refuses_ids_that_are_missing_or_outside_of_the_vocabulary) {
    for (const char* name : {"bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"}) {
        for (const json& value : {json(-1), json(331), json(nullptr), json("2"), json(1e10)}) {
            refused(with(swcm(), std::string("/") + name, value), name);
        }
    }
    for (const json& value : {json(400), json(-1), json::array(), json({2, 400}), json({2, nullptr}), json(nullptr)}) {
        refused(with(fusion(), "/eos_token_id", value), "eos_token_id");
    }
    refused(with(fusion(), "/bos_token_id", 400), "bos_token_id");
    refused(with(fusion(), "/pad_token_id", 400), "pad_token_id");
    for (const json& value : {json(-1), json(331), json(nullptr)}) {
        refused(with(classifier(), "/encoder/pad_token_id", value), "encoder.pad_token_id");
    }
}

TEST(config_refuses_labels_that_are_incomplete) {
    const auto labels = [](const json& value, const char* fragment) {
        refused(with(classifier(), "/id2label", value), fragment);
    };
    labels(json::object(), "at least one label");
    labels(json::array({"a"}), "an object");
    labels({{"1", "a"}}, "id2label.0");
    labels({{"0", "a"}, {"2", "b"}}, "id2label.1");
    labels({{"0", "a"}, {"01", "b"}}, "id2label.1");
    labels({{"0", "a"}, {"1", 3}}, "id2label.1");
    labels({{"0", "a"}, {"1", "a"}}, "no other label");
}

TEST(config_refuses_mixers_and_mappers_with_bad_numbers) {
    refused(with(fusion(), "/mixer/ffn_dim", 0), "mixer.ffn_dim");
    refused(with(fusion(), "/mixer/layer_norm_eps", -1), "mixer.layer_norm_eps");
    refused(with(fusion(), "/mixer/temperature_base", "hot"), "mixer.temperature_base");
    refused(with(fusion(), "/mixer/add_global", 1), "mixer.add_global");
    refused(with(fusion(), "/mapper", {{"type", "mlp"}}), "mapper.hidden_dim");
    refused(with(fusion(), "/mapper", {{"type", "mlp"}, {"hidden_dim", 1e9}, {"activation", "relu"}}),
            "mapper.hidden_dim");
    refused(with(fusion(), "/mapper", {{"type", "latent"}, {"num_latents", -1}}), "mapper.num_latents");
}
