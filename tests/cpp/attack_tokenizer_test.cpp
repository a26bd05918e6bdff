// tokenizer.json that is cut, lies, or is made to exhaust the reader: a typed error, or a tokenizer that works.
#include <limits>
#include <set>

#include "core/error.h"
#include "harness.h"
#include "tokenizer_files.h"

using namespace lrengine;
using namespace tokenizer_files;

namespace {

const std::vector<std::string> kTexts = {
    "", "a b", "aab \n ab", "\xFF\xFE", std::string("\0a", 2), "é中\U0001F600", "<s></s> <unk>"};

// Uses a tokenizer in every way; whatever it was made of, only typed errors may come.
void use(const Tokenizer& tokenizer) {
    for (const std::string& text : kTexts) {
        try {
            tokenizer.decode(tokenizer.encode(text, true));
        } catch (const Error& error) {
            CHECK(error.code() == ErrorCode::kInvalidArgument);
        }
    }
    for (std::int32_t id = -1; id < 12; ++id) tokenizer.piece(id);
}

void load_and_use(const std::string& text) {
    try {
        use(*load_text(text));
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kModelFile || error.code() == ErrorCode::kUnsupported);
    }
}

// Every value of a file, and every object and list that one is in.
std::set<std::string> places(const json& file) {
    std::set<std::string> all;
    const json flat = file.flatten();
    for (const auto& [pointer, value] : flat.items()) {
        for (json::json_pointer place(pointer); !place.empty(); place = place.parent_pointer()) {
            all.insert(place.to_string());
        }
    }
    return all;
}

void refused(json file, const char* pointer, const json& value, const std::string& fragment) {
    file[json::json_pointer(pointer)] = value;
    CHECK_ERROR(load(file), ErrorCode::kModelFile, fragment);
}

void unsupported(json file, const char* pointer, const json& value, const std::string& fragment) {
    file[json::json_pointer(pointer)] = value;
    CHECK_ERROR(load(file), ErrorCode::kUnsupported, fragment);
}

}  // namespace

TEST(a_cut_file_is_refused_wherever_it_is_cut) {
    for (const json& file : {unigram(), bpe()}) {
        const std::string text = file.dump();
        load_and_use(text);
        for (int part = 0; part < 64; ++part) {
            CHECK_ERROR(load_text(text.substr(0, text.size() * part / 64)), ErrorCode::kModelFile, "tokenizer.json");
        }
    }
}

TEST(a_flipped_bit_anywhere_is_an_error_or_does_not_matter) {
    for (const json& file : {unigram(), bpe()}) {
        const std::string text = file.dump();
        for (std::size_t i = 0; i < text.size(); ++i) {
            std::string changed = text;
            changed[i] = static_cast<char>(changed[i] ^ (1 << (i * 5 % 8)));
            load_and_use(changed);
        }
    }
}

TEST(a_value_of_another_type_anywhere_is_an_error_or_does_not_matter) {
    const std::vector<json> others = {nullptr, true, -1, 1e300, UINT64_MAX, "", "x", json::object(), json::array({1})};
    for (const json& file : {unigram(), bpe()}) {
        for (const std::string& place : places(file)) {
            for (const json& other : others) {
                json changed = file;
                changed[json::json_pointer(place)] = other;
                load_and_use(changed.dump());
            }
        }
    }
}

TEST(a_missing_member_anywhere_is_an_error_or_does_not_matter) {
    for (const json& file : {unigram(), bpe()}) {
        for (const std::string& text : places(file)) {
            const json::json_pointer place(text);
            json changed = file;
            json& parent = changed[place.parent_pointer()];
            if (!parent.is_object()) continue;
            parent.erase(place.back());
            load_and_use(changed.dump());
        }
    }
}

TEST(vocabularies_that_lie_are_refused) {
    refused(unigram(), "/model/vocab", json::array(), "model.vocab");
    refused(unigram(), "/model/vocab/3", json::array({"a"}), "model.vocab[3]");
    refused(unigram(), "/model/vocab/3/1", "1", "model.vocab[3]");
    refused(unigram(), "/model/unk_id", 8, "model.unk_id");
    refused(unigram(), "/model/unk_id", -1, "model.unk_id");
    refused(bpe(), "/model/vocab/a", -1, "model.vocab.a");
    refused(bpe(), "/model/vocab/a", 2, "no other piece");
    refused(bpe(), "/model/vocab/a", 1LL << 40, "model.vocab.a");
    refused(bpe(), "/model/vocab/a", 1.5, "model.vocab.a");
    refused(bpe(), "/model/merges/0", "a c", "model.merges[0]");
    refused(bpe(), "/model/merges/0", "b a", "model.merges[0]");  // "ba" is no piece
    refused(bpe(), "/model/merges/0", "ab", "model.merges[0]");
    refused(bpe(), "/model/merges/0", "a b ", "model.merges[0]");
    refused(bpe(), "/model/merges/0", json::array({"a", "b", "c"}), "model.merges[0]");
    refused(bpe(), "/model/unk_token", "none", "model.unk_token");
    refused(bpe(), "/added_tokens/0/id", -5, "added_tokens[0].id");
    refused(bpe(), "/added_tokens/0/id", 1LL << 33, "added_tokens[0].id");
    unsupported(unigram(), "/model/vocab/4/0", std::string(5000, 'a'), "1024 bytes");
    unsupported(bpe(), "/added_tokens/0/content", std::string(5000, 'a'), "1024 bytes");
    std::string nan = unigram().dump();
    nan.replace(nan.find("-2.0"), 4, "NaN");
    CHECK_ERROR(load_text(nan), ErrorCode::kModelFile, "not JSON");
    nan.replace(nan.find("NaN"), 3, "1e999");
    CHECK_ERROR(load_text(nan), ErrorCode::kModelFile, "tokenizer.json");
}

TEST(scores_at_the_ends_of_the_range_do_not_break_the_search) {
    for (const double score : {std::numeric_limits<double>::max(), std::numeric_limits<double>::lowest()}) {
        json file = unigram();
        for (json& entry : file["model"]["vocab"]) entry[1] = score;
        use(*load(file));
    }
}

TEST(parts_that_are_not_read_are_named) {
    unsupported(unigram(), "/normalizer/type", "BertNormalizer", "normalizer.type");
    unsupported(unigram(), "/pre_tokenizer/type", "BertPreTokenizer", "pre_tokenizer.type");
    unsupported(unigram(), "/post_processor/type", "Other", "post_processor.type");
    unsupported(unigram(), "/decoder/type", "WordPiece", "decoder.type");
    unsupported(unigram(), "/model/type", "WordPiece", "model.type");
    unsupported(bpe(), "/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix");
    unsupported(bpe(), "/model/dropout", 0.5, "model.dropout");
}

TEST(a_charsmap_is_never_read_past_its_end) {
    const auto with_map = [](const std::string& bytes) {
        json file = unigram();
        file["normalizer"]["precompiled_charsmap"] = base64(bytes);
        return file.dump();
    };
    const std::string whole = small_charsmap();
    for (std::size_t size = 0; size < whole.size(); size += 13) load_and_use(with_map(whole.substr(0, size)));
    for (std::uint32_t value : {1u, 2u, 3u, 1000u, 0x7FFFFFFFu}) load_and_use(with_map(small_charsmap(value)));
    // Every unit in turn points far away, or at itself.
    for (std::uint32_t unit : {0xFFFFFFFFu, 0x7FFFFFFFu, 0x7FFFFF61u, 0x00000161u, 0u}) {
        std::vector<std::uint32_t> units(0x200, unit);
        load_and_use(with_map(charsmap(units, "B")));
        load_and_use(with_map(charsmap({unit}, "B")));
        load_and_use(with_map(charsmap({0x100u << 10, unit}, "")));
    }
    CHECK_ERROR(load_text(with_map(charsmap({0}, "\xFF"))), ErrorCode::kModelFile, "not UTF-8");
    CHECK_ERROR(load_text(with_map(std::string("\xFF\xFF\xFF\x7F", 4))), ErrorCode::kModelFile, "charsmap");
    CHECK_ERROR(load_text(with_map("abc")), ErrorCode::kModelFile, "fewer than 4");
    refused(unigram(), "/normalizer/precompiled_charsmap", "!!!!", "base64");
}

TEST(rules_cannot_make_a_text_endless) {
    const json grow = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(64, 'a')}};
    json file = bpe();
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json(20, grow)}};
    CHECK_ERROR(load(file)->encode(std::string(1000, 'a'), false), ErrorCode::kInvalidArgument, "endless");
    file = bpe();
    file["decoder"] = {{"type", "Sequence"}, {"decoders", json(20, grow)}};
    CHECK_ERROR(load(file)->decode(std::vector<std::int32_t>(1000, 1)), ErrorCode::kInvalidArgument, "endless");
    file = unigram();
    std::string large = small_charsmap();
    large.replace(large.size() - 2, 2, std::string(100'000, 'x'));
    file["normalizer"]["precompiled_charsmap"] = base64(large);
    CHECK_ERROR(load(file)->encode(std::string(100, 'a'), false), ErrorCode::kInvalidArgument, "endless");
}

TEST(deep_nesting_is_refused) {
    json part = {{"type", "NFC"}};
    for (int i = 0; i < 100; ++i) part = {{"type", "Sequence"}, {"normalizers", {part}}};
    refused(bpe(), "/normalizer", part, "nesting");
}
