// SentencePiece models with the ids of XLM-R, T5 and mT5. Without libsentencepiece only the refusal can be tested.
#include "core/error.h"
#include "harness.h"
#include "model_files.h"
#include "text/tokenizer.h"

#ifdef LRENGINE_SENTENCEPIECE_TRAINER
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#endif

using namespace lrengine;

#ifndef LRENGINE_SENTENCEPIECE

TEST(a_model_is_refused_where_the_library_was_not_found) {
    std::cout << "libsentencepiece was not found: the tests of its models are left out\n";
    const model_files::TemporaryDirectory directory;
    directory.write("spiece.model", "x");
    CHECK_ERROR(Tokenizer::load(directory.path()), ErrorCode::kUnsupported, "built without libsentencepiece");
}

#else

TEST(a_broken_model_is_refused) {
    const model_files::TemporaryDirectory directory;
    for (const char* content : {"", "x", "\x0A\xFF\xFF\xFF\xFF\x0F", "{}"}) {
        directory.write("spiece.model", content);
        CHECK_ERROR(Tokenizer::load(directory.path()), ErrorCode::kModelFile, "spiece.model");
    }
}

#ifdef LRENGINE_SENTENCEPIECE_TRAINER

namespace {

const std::vector<std::string> kTexts = {"the quick brown fox", "  Привет,  мир ", "",
                                         "中文 text ﬁ",         "über\n\n",        "\U0001F600"};

// A model of the words of kTexts, with T5's special tokens or, as XLM-R has them, SentencePiece's own.
void train(const model_files::TemporaryDirectory& directory, const std::string& name, const std::string& options) {
    std::string lines;
    for (const std::string& text : kTexts) {
        for (int i = 0; i < 4; ++i) lines += text + "\n";
    }
    directory.write("lines.txt", lines);
    const std::string at = directory.path().string();
    const auto status = sentencepiece::SentencePieceTrainer::Train(
        "--input=" + at + "/lines.txt --model_prefix=" + at + "/trained --vocab_size=60 --hard_vocab_limit=false " +
        "--minloglevel=2 " + options);
    REQUIRE(status.ok());
    std::filesystem::rename(directory.path() / "trained.model", directory.path() / name);
}

std::vector<std::int32_t> numbered(const sentencepiece::SentencePieceProcessor& library, const std::string& text,
                                   int offset, int unknown) {
    std::vector<std::int32_t> ids;
    for (const int place : library.EncodeAsIds(text)) {
        ids.push_back(place == library.unk_id() ? unknown : place + offset);
    }
    return ids;
}

}  // namespace

TEST(xlm_roberta_moves_every_piece_by_one) {
    const model_files::TemporaryDirectory directory;
    train(directory, "sentencepiece.bpe.model", "");
    sentencepiece::SentencePieceProcessor library;
    REQUIRE(library.Load((directory.path() / "sentencepiece.bpe.model").string()).ok());
    const auto tokenizer = Tokenizer::load(directory.path());
    REQUIRE(tokenizer != nullptr);
    CHECK_EQUAL(tokenizer->size(), library.GetPieceSize() + 2);
    CHECK_EQUAL(tokenizer->piece(3), "<unk>");
    CHECK_EQUAL(tokenizer->piece(4), library.IdToPiece(3));
    CHECK_EQUAL(tokenizer->piece(library.GetPieceSize() + 1), "<mask>");
    CHECK_EQUAL(tokenizer->piece(library.GetPieceSize() + 2), "");
    for (const std::string& text : kTexts) {
        auto expected = numbered(library, text, 1, 3);
        CHECK(tokenizer->encode(text, false) == expected);
        CHECK_EQUAL(tokenizer->decode(expected), library.DecodeIds(library.EncodeAsIds(text)));
        expected.insert(expected.begin(), 0);
        expected.push_back(2);
        CHECK(tokenizer->encode(text, true) == expected);
    }
    directory.write("tokenizer_config.json", "{\"tokenizer_class\": \"NllbTokenizer\"}");
    CHECK_ERROR(Tokenizer::load(directory.path()), ErrorCode::kUnsupported, "NllbTokenizer");
}

TEST(t5_ends_a_text_with_its_own_ids) {
    const model_files::TemporaryDirectory directory;
    train(directory, "spiece.model", "--pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1");
    sentencepiece::SentencePieceProcessor library;
    REQUIRE(library.Load((directory.path() / "spiece.model").string()).ok());
    const auto tokenizer = Tokenizer::load(directory.path());
    REQUIRE(tokenizer != nullptr);
    CHECK_EQUAL(tokenizer->size(), library.GetPieceSize());
    for (const std::string& text : kTexts) {
        auto expected = numbered(library, text, 0, 2);
        CHECK(tokenizer->encode(text, false) == expected);
        expected.push_back(1);
        CHECK(tokenizer->encode(text, true) == expected);
    }
    CHECK_EQUAL(tokenizer->decode(std::vector<std::int32_t>{0, 1, 2, -1, 100'000}), "");
}

#endif
#endif
