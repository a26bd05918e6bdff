#include "models/config_parts.h"

#include <string_view>
#include <utility>

namespace lrengine {

std::int64_t read_size(const JsonValue& fields, const char* name, std::int64_t limit) {
    return fields.at(name).integer(1, limit);
}

float read_epsilon(const JsonValue& field) {
    const double value = field.number();
    if (!(value >= 1e-30 && value <= 1.0)) field.refuse("a number in [1e-30, 1]");
    return static_cast<float>(value);
}

Activation read_activation(const JsonValue& field) {
    constexpr std::pair<std::string_view, Activation> kNames[] = {
        {"relu", Activation::kRelu},          {"gelu", Activation::kGelu},
        {"gelu_python", Activation::kGelu},   {"gelu_new", Activation::kGeluTanh},
        {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
        {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
        {"tanh", Activation::kTanh},
    };
    const std::string found = field.text();
    std::string known;
    for (const auto& [name, activation] : kNames) {
        if (name == found) return activation;
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    field.refuse_unsupported("one of " + known);
}

MixerConfig read_mixer_config(const JsonValue& fields) {
    MixerConfig mixer;
    const JsonValue type = fields.at("type");
    const std::string name = type.text();
    if (name == "global") {
        mixer.kind = MixerKind::kGlobal;
    } else if (name == "transformer") {
        mixer.kind = MixerKind::kTransformer;
    } else if (name != "last") {
        type.refuse_unsupported("last, global or transformer");
    }
    if (const auto base = fields.find("temperature_base")) mixer.temperature_base = base->number();
    if (const auto factor = fields.find("temperature_factor")) mixer.temperature_factor = factor->number();
    if (const auto ffn = fields.find("ffn_dim")) mixer.ffn = ffn->integer(1, kLargestWidth);
    if (const auto eps = fields.find("layer_norm_eps")) mixer.eps = read_epsilon(*eps);
    if (const auto add_global = fields.find("add_global")) mixer.add_global = add_global->boolean();
    return mixer;
}

MapperConfig read_mapper_config(const JsonValue& fields) {
    MapperConfig mapper;
    const JsonValue type = fields.at("type");
    const std::string name = type.text();
    if (name == "mlp") {
        mapper.kind = MapperKind::kMlp;
        mapper.hidden = read_size(fields, "hidden_dim", kLargestWidth);
        mapper.activation = read_activation(fields.at("activation"));
    } else if (name == "latent") {
        mapper.kind = MapperKind::kLatent;
        mapper.latents = read_size(fields, "num_latents", kLargestWidth);
        mapper.depth = read_size(fields, "depth", kMostLayers);
        mapper.heads = read_size(fields, "heads", kLargestWidth);
        mapper.head_dim = read_size(fields, "head_dim", kLargestWidth);
        mapper.ffn = read_size(fields, "ffn_dim", kLargestWidth);
    } else if (name != "linear") {
        type.refuse_unsupported("linear, mlp or latent");
    }
    return mapper;
}

}  // namespace lrengine
