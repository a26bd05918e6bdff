// The tokenizer that a tokenizer.json describes (Hugging Face `tokenizers`): added tokens, normalizer, pre-tokenizer,
// model, post-processor, decoder.
#pragma once

#include <filesystem>
#include <memory>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/model.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace lrengine::text {

class JsonTokenizer final : public Tokenizer {
public:
    explicit JsonTokenizer(const std::filesystem::path& file);

    std::vector<std::int32_t> encode(std::string_view text, bool special_tokens) const override;
    std::string decode(std::span<const std::int32_t> ids) const override;
    std::string piece(std::int32_t id) const override;
    std::int32_t id(std::string_view piece) const override;
    std::int64_t size() const override;

private:
    JsonTokenizer(const JsonValue& description, const std::string& file);
    void encode_stretch(Stretch stretch, std::vector<std::int32_t>& ids) const;

    std::unique_ptr<const Normalizer> normalizer_;       // may be null
    std::unique_ptr<const PreTokenizer> pre_tokenizer_;  // may be null
    std::unique_ptr<const Model> model_;
    AddedTokens added_;
    PostProcessor post_processor_;
    std::unique_ptr<const Decoder> decoder_;  // may be null
};

}  // namespace lrengine::text
