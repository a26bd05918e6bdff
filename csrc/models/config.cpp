#include "models/config.h"

#include <set>
#include <utility>

#include "core/error.h"
#include "core/int4_groups.h"
#include "models/config_parts.h"

namespace lrengine {

namespace {

// eos_token_id: one id, or a list of at least one.
std::vector<std::int64_t> read_eos(const JsonValue& field, std::int64_t vocab) {
    if (!field.is_list()) return {field.integer(0, vocab - 1)};
    std::vector<std::int64_t> ids;
    for (const JsonValue& element : field.elements()) ids.push_back(element.integer(0, vocab - 1));
    if (ids.empty()) field.refuse("at least one id");
    return ids;
}

// A Hugging Face enumeration: the value beside the name that the field holds.
template <typename Value>
Value read_choice(const JsonValue& field, std::initializer_list<std::pair<const char*, Value>> choices) {
    const std::string found = field.text();
    std::string known;
    for (const auto& [name, value] : choices) {
        if (found == name) return value;
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    field.refuse_unsupported("one of " + known);
}

void read_swcm(const JsonValue& fields, ModelConfig& model) {
    SwcmConfig config;
    config.encoder = read_encoder_config(fields.at("encoder"));
    if (config.encoder.kind != EncoderKind::kBert) {
        fields.at("encoder").at("model_type").refuse_unsupported("an encoder of the BERT kind");
    }
    const std::int64_t vocab = config.encoder.vocab;
    if (fields.at("vocab_size").integer(1, kLargestVocab) != vocab) {
        fields.at("vocab_size").refuse("encoder.vocab_size, " + std::to_string(vocab));
    }
    config.normal_layer_interval = fields.at("normal_layer_interval").integer(0, kMostLayers);
    config.normal_after_last = fields.at("normal_after_last").boolean();
    config.norm_style = read_choice<NormStyle>(fields.at("norm_style"),
                                               {{"post", NormStyle::kPost}, {"published", NormStyle::kPublished}});
    config.sharing = read_choice<Sharing>(
        fields.at("sharing"), {{"init", Sharing::kInit}, {"tied", Sharing::kTied}, {"none", Sharing::kNone}});
    config.tied_output = fields.at("tie_word_embeddings").boolean();
    config.output_bias = fields.at("output_bias").boolean();
    config.decoder_eps = read_epsilon(fields.at("decoder_layer_norm_eps"));
    config.max_target_positions = config.encoder.max_positions;
    model.tokens.bos = fields.at("bos_token_id").integer(0, vocab - 1);
    model.tokens.pad = fields.at("pad_token_id").integer(0, vocab - 1);
    model.tokens.eos = read_eos(fields.at("eos_token_id"), vocab);
    model.tokens.decoder_start = fields.at("decoder_start_token_id").integer(0, vocab - 1);
    model.swcm = std::move(config);
}

void read_fusion(const JsonValue& fields, ModelConfig& model) {
    FusionConfig config;
    config.encoder = read_encoder_config(fields.at("encoder"));
    config.llm = read_llm_config(fields.at("llm"));
    config.mixer = read_mixer_config(fields.at("mixer"));
    config.mapper = read_mapper_config(fields.at("mapper"));
    const std::int64_t vocab = config.llm.vocab;
    fields.at("bos_token_id");  // null says that there is none; absent says nothing
    if (const auto bos = fields.find("bos_token_id")) model.tokens.bos = bos->integer(0, vocab - 1);
    if (const auto pad = fields.find("pad_token_id")) model.tokens.pad = pad->integer(0, vocab - 1);
    model.tokens.eos = read_eos(fields.at("eos_token_id"), vocab);
    model.fusion = std::move(config);
}

// {"0": "name", "1": "name", ...}: every class once, under its number.
std::vector<std::string> read_labels(const JsonValue& field) {
    std::vector<std::string> labels;
    const std::size_t count = field.keys().size();
    std::set<std::string> seen;
    while (labels.size() < count) {
        const JsonValue label = field.at(std::to_string(labels.size()));
        labels.push_back(label.text());
        if (!seen.insert(labels.back()).second) label.refuse("a name that no other label has");
    }
    if (labels.empty()) field.refuse("at least one label");
    return labels;
}

void read_classifier(const JsonValue& fields, ModelConfig& model) {
    ClassifierConfig config;
    config.encoder = read_encoder_config(fields.at("encoder"));
    config.mixer = read_mixer_config(fields.at("mixer"));
    config.labels = read_labels(fields.at("id2label"));
    if (fields.at("pooling").text() != "mean") fields.at("pooling").refuse_unsupported("mean");
    model.classifier = std::move(config);
}

std::optional<Quantization> read_quantization(const JsonValue& fields) {
    const auto quantization = fields.find("quantization");
    if (!quantization) return std::nullopt;
    const JsonValue dtype = quantization->at("dtype"), scheme = quantization->at("scheme");
    if (dtype.text() == "int8") {
        if (scheme.text() != "per-row-symmetric") scheme.refuse_unsupported("per-row-symmetric");
        return Quantization{DType::kInt8};
    }
    if (dtype.text() != "int4") dtype.refuse_unsupported("int8 or int4");
    if (scheme.text() != "group-symmetric") scheme.refuse_unsupported("group-symmetric");
    const JsonValue group_size = quantization->at("group_size");
    const std::int64_t size = group_size.integer(1, kLargestWidth);
    if (!is_group_size(size)) group_size.refuse_unsupported("32, 64 or 128");
    return Quantization{DType::kInt4, size};
}

}  // namespace

ModelConfig read_config(const std::filesystem::path& directory) {
    const JsonValue fields = JsonValue::read(directory / "config.json");
    ModelConfig model;
    const JsonValue type = fields.at("model_type");
    model.model_type = type.text();
    model.quantization = read_quantization(fields);
    if (model.model_type == "swcm") {
        read_swcm(fields, model);
    } else if (model.model_type == "layer_fusion") {
        read_fusion(fields, model);
    } else if (model.model_type == "layer_fusion_classifier") {
        read_classifier(fields, model);
    } else {
        type.refuse_unsupported("swcm, layer_fusion or layer_fusion_classifier");
    }
    return model;
}

}  // namespace lrengine
