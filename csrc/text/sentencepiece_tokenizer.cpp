#include "text/sentencepiece_tokenizer.h"

#include "core/error.h"

#ifdef LRENGINE_SENTENCEPIECE

#include <sentencepiece_processor.h>

#include <algorithm>
#include <utility>

#include "core/json.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// How a family of models numbers the pieces of its SentencePiece model.
struct Numbering {
    std::int32_t offset;                      // id of a piece is its place in the model plus this
    std::int32_t unknown;                     // id of the unknown piece
    std::vector<std::int32_t> before, after;  // around a text
    std::vector<std::string> first;           // ids below the model's own pieces
    std::vector<std::string> last;            // ids above them
    std::vector<std::string_view> classes;    // tokenizer_class of tokenizer_config.json
};

// fairseq's dictionary begins with four special tokens, where the model has three: <unk>, <s>, </s>.
Numbering xlm_roberta() {
    return {1,
            3,
            {0},
            {2},
            {"<s>", "<pad>", "</s>", "<unk>"},
            {"<mask>"},
            {"XLMRobertaTokenizer", "XLMRobertaTokenizerFast"}};
}

Numbering t5() {
    return {0,
            2,
            {},
            {1},
            {"<pad>", "</s>", "<unk>"},
            {},
            {"T5Tokenizer", "T5TokenizerFast", "MT5Tokenizer", "MT5TokenizerFast"}};
}

class SentencePieceTokenizer final : public Tokenizer {
public:
    SentencePieceTokenizer(const std::filesystem::path& file, Numbering numbering) : numbering_(std::move(numbering)) {
        const auto status = processor_.Load(file.string());
        if (!status.ok()) {
            fail(ErrorCode::kModelFile, file.string() + ": found no SentencePiece model: " + status.ToString());
        }
        pieces_ = processor_.GetPieceSize();
        if (pieces_ < static_cast<std::int32_t>(numbering_.first.size()) - numbering_.offset) {
            fail(ErrorCode::kModelFile, file.string() + ": found a model without special tokens");
        }
    }

    std::vector<std::int32_t> encode(std::string_view text, bool special_tokens) const override {
        std::vector<int> places;
        const auto status = processor_.Encode(replace_malformed(text), &places);
        if (!status.ok()) fail(ErrorCode::kInvalidArgument, "text: " + status.ToString());
        std::vector<std::int32_t> ids;
        if (special_tokens) ids = numbering_.before;
        for (const int place : places) {
            ids.push_back(place == processor_.unk_id() ? numbering_.unknown : place + numbering_.offset);
        }
        if (special_tokens) ids.insert(ids.end(), numbering_.after.begin(), numbering_.after.end());
        return ids;
    }

    std::string decode(std::span<const std::int32_t> ids) const override {
        std::vector<int> places;
        for (const std::int32_t id : ids) {
            if (is_piece(id)) places.push_back(id - numbering_.offset);
        }
        std::string text;
        const auto status = processor_.Decode(places, &text);
        if (!status.ok()) fail(ErrorCode::kInternal, "decode: " + status.ToString());
        return text;
    }

    std::string piece(std::int32_t id) const override {
        if (is_piece(id)) return processor_.IdToPiece(id - numbering_.offset);
        const auto name = [&](const std::vector<std::string>& names, std::int64_t place) {
            return place >= 0 && place < std::ssize(names) ? names[static_cast<std::size_t>(place)] : std::string();
        };
        const std::string first = name(numbering_.first, id);
        return first.empty() ? name(numbering_.last, std::int64_t{id} - pieces_ - numbering_.offset) : first;
    }

    std::int32_t id(std::string_view piece) const override {
        const int place = processor_.PieceToId(piece);  // the unknown piece's where there is none
        return processor_.IdToPiece(place) == piece ? place + numbering_.offset : -1;
    }

    std::int64_t size() const override {
        return std::int64_t{pieces_} + numbering_.offset + std::ssize(numbering_.last);
    }

private:
    bool is_piece(std::int32_t id) const {
        return id >= std::ssize(numbering_.first) && std::int64_t{id} - numbering_.offset < pieces_;
    }

    sentencepiece::SentencePieceProcessor processor_;
    Numbering numbering_;
    std::int32_t pieces_ = 0;
};

// Other families keep their models under the same names and number them otherwise: NLLB, ALBERT, XLNet.
void check_class(const std::filesystem::path& file, const Numbering& numbering) {
    const auto path = file.parent_path() / "tokenizer_config.json";
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return;
    const auto name = JsonValue::read(path).find("tokenizer_class");
    if (name && std::ranges::find(numbering.classes, name->text()) == numbering.classes.end()) {
        name->refuse_unsupported("the tokenizer of XLM-R, T5 or mT5, or a tokenizer.json");
    }
}

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file) {
    Numbering numbering = file.filename() == "spiece.model" ? t5() : xlm_roberta();
    check_class(file, numbering);
    return std::make_unique<SentencePieceTokenizer>(file, std::move(numbering));
}

}  // namespace lrengine::text

#else

namespace lrengine::text {

std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& file) {
    fail(ErrorCode::kUnsupported, file.string() + ": found a SentencePiece model, expected tokenizer.json: this was " +
                                      "built without libsentencepiece");
}

}  // namespace lrengine::text

#endif
