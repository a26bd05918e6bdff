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

Background<Codec> start_reading(const std::filesystem::path& directory, bool beside) {
    return {beside && Tokenizer::has_one(directory), [directory] { return read_codec(directory); }};
}

}  // namespace

TextsBeingRead::TextsBeingRead(const std::filesystem::path& directory, int threads)
    : directory_(directory),
      beside_(threads != 1 && (Tokenizer::has_one(directory) || Tokenizer::has_one(directory / "llm"))),
      source_(start_reading(directory, beside_)),
      llm_(start_reading(directory / "llm", beside_)) {}

Texts::Texts(TextsBeingRead& reading, const Engine& engine)
    : fused_(engine.config().fusion.has_value()),
      source_(reading.source_.get()),
      llm_(fused_ ? reading.llm_.get() : Codec{}),
      template_(fused_ ? read_template(reading.directory_, kPromptHere) : std::string(kPromptHere)) {}

const Tokenizer& Texts::of(lrengine_side side) const {
    if (side != LRENGINE_SOURCE && side != LRENGINE_TARGET) {
        fail(ErrorCode::kInvalidArgument,
             "side: found " + std::to_string(side) + ", expected 0 (source) or 1 (target)");
    }
    const Codec& codec = side == LRENGINE_SOURCE ? source_ : target();
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
