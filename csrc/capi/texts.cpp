#include "capi/texts.h"

#include "core/error.h"
#include "core/json.h"

namespace lrengine::capi {

namespace {

std::string read_template(const std::filesystem::path& directory, std::string_view place) {
    const auto field = JsonValue::read(directory / "config.json").find("prompt_template");
    if (!field) return std::string(place);
    std::string text = field->text();
    if (text.find(place) == std::string::npos) field->refuse("null or text with {prompt} in it");
    return text;
}

Codec read_codec(const std::filesystem::path& directory) {
    Codec codec;
    try {
        codec.tokenizer = Tokenizer::load(directory);
        if (!codec.tokenizer) codec.missing = directory.string() + ": no tokenizer.json; give ids instead of text";
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kUnsupported) throw;
        codec.missing = std::string(error.what()) + "; give ids instead of text";
    }
    return codec;
}

// Whether config.json says so. What is wrong with it, opening the engine will say.
bool is_fusion(const std::filesystem::path& directory) {
    try {
        const auto type = JsonValue::read(directory / "config.json").find("model_type");
        return type && type->text() == "layer_fusion";
    } catch (const Error&) {
        return false;
    }
}

}  // namespace

TextsBeingRead::TextsBeingRead(const std::filesystem::path& directory, int threads)
    : directory_(directory),
      fused_(is_fusion(directory)),
      codecs_(threads != 1 && (Tokenizer::has_one(directory) || (fused_ && Tokenizer::has_one(directory / "llm"))),
              [directory, fused = fused_] {
                  Codec source = read_codec(directory);
                  return Codecs{std::move(source), fused ? read_codec(directory / "llm") : Codec{}};
              }) {}

Texts::Texts(TextsBeingRead& reading, const Engine& engine)
    : fused_(engine.config().fusion.has_value()),
      codecs_(reading.codecs_.get()),
      template_(fused_ ? read_template(reading.directory_, kPromptHere) : std::string(kPromptHere)) {}

const Tokenizer& Texts::of(lrengine_side side) const {
    if (side != LRENGINE_SOURCE && side != LRENGINE_TARGET) {
        fail(ErrorCode::kInvalidArgument,
             "side: found " + std::to_string(side) + ", expected 0 (source) or 1 (target)");
    }
    const Codec& codec = side == LRENGINE_SOURCE ? codecs_.source : target();
    if (!codec.tokenizer) fail(ErrorCode::kUnsupported, codec.missing);
    return *codec.tokenizer;
}

Ids Texts::prompt(std::string_view text) const {
    std::string filled;
    std::string_view rest = template_;
    for (std::size_t place = rest.find(kPromptHere); place != std::string_view::npos; place = rest.find(kPromptHere)) {
        filled.append(rest.substr(0, place)).append(text);
        rest.remove_prefix(place + kPromptHere.size());
    }
    filled.append(rest);
    return of(LRENGINE_TARGET).encode(filled, false);
}

}  // namespace lrengine::capi
