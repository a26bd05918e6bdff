#include "text/json_tokenizer.h"

#include <utility>

#include "text/growth.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// The largest vocabularies in use (256,000 pieces, 600,000 merges) take 35 MB and 2 million values.
constexpr JsonLimits kLimits = {.bytes = std::size_t{64} << 20, .depth = 32, .values = std::size_t{4} << 20};

// What `read` makes of a member, null where there is none.
template <typename Read>
auto part_of(const JsonValue& description, const char* name, Read read) -> decltype(read(description)) {
    const auto part = description.find(name);
    return part ? read(*part) : nullptr;
}

}  // namespace

JsonTokenizer::JsonTokenizer(const std::filesystem::path& file)
    : JsonTokenizer(JsonValue::read(file, kLimits), file.string()) {}

JsonTokenizer::JsonTokenizer(const JsonValue& description, const std::string& file)
    : normalizer_(
          part_of(description, "normalizer", [&](const JsonValue& part) { return read_normalizer(part, file); })),
      pre_tokenizer_(part_of(description, "pre_tokenizer", read_pre_tokenizer)),
      model_(read_model(description.at("model"))),
      decoder_(part_of(description, "decoder", read_decoder)) {
    if (const auto list = description.find("added_tokens")) {
        added_ = AddedTokens(*list, model_->vocabulary(), normalizer_.get());
    }
    if (const auto part = description.find("post_processor")) post_processor_ = PostProcessor(*part);
}

std::vector<std::int32_t> JsonTokenizer::encode(std::string_view text, bool special_tokens) const {
    const std::string clean = replace_malformed(text);
    std::vector<std::int32_t> ids;
    ids.reserve(clean.size() / 3 + 4);
    for (const AddedTokens::Part& part : added_.find_raw(clean)) {
        if (part.id) {
            ids.push_back(*part.id);
        } else {
            const std::size_t size = part.end - part.begin;
            encode_stretch({clean.substr(part.begin, size), part.begin == 0, most_bytes(size)}, ids);
        }
    }
    return post_processor_.apply(std::move(ids), special_tokens);
}

void JsonTokenizer::encode_stretch(Stretch stretch, std::vector<std::int32_t>& ids) const {
    if (normalizer_) normalizer_->apply(stretch);
    for (const AddedTokens::Part& part : added_.find_normalized(stretch.text)) {
        if (part.id) {
            ids.push_back(*part.id);
            continue;
        }
        Words words;
        words.text = stretch.text.substr(part.begin, part.end - part.begin);
        words.spans = {{0, words.text.size(), stretch.at_start && part.begin == 0}};
        if (pre_tokenizer_) pre_tokenizer_->apply(words);
        for (const Words::Span& span : words.spans) model_->tokenize(words.word(span), ids);
    }
}

std::string JsonTokenizer::decode(std::span<const std::int32_t> ids) const {
    std::vector<std::string> pieces;
    for (const std::int32_t id : ids) {
        std::string own = piece(id);
        const bool known = added_.spelling(id) != nullptr || model_->vocabulary().has(id);
        if (known && !added_.is_special(own)) pieces.push_back(std::move(own));
    }
    std::size_t bytes = 0;
    for (const std::string& own : pieces) bytes += own.size();
    if (decoder_) decoder_->apply(pieces, most_bytes(bytes));
    std::string text;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
        if (!decoder_ && i > 0) text += ' ';
        text += pieces[i];
    }
    return text;
}

std::string JsonTokenizer::piece(std::int32_t id) const {
    const std::string* spelling = added_.spelling(id);
    return spelling != nullptr ? *spelling : std::string(model_->vocabulary().piece(id));
}

std::int32_t JsonTokenizer::id(std::string_view piece) const {
    const auto added = added_.id(piece);
    return added ? *added : model_->vocabulary().find(piece).value_or(-1);
}

std::int64_t JsonTokenizer::size() const { return model_->vocabulary().size() + added_.beyond_vocabulary(); }

}  // namespace lrengine::text
