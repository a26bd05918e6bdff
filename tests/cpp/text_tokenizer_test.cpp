// Text to ids and back, by hand; tests/python compares with Hugging Face's on real text.
#include <thread>

#include "core/error.h"
#include "harness.h"
#include "text/target_text.h"
#include "text/unicode.h"
#include "tokenizer_files.h"

using namespace lrengine;
using namespace tokenizer_files;

namespace {

using Ids = std::vector<std::int32_t>;

std::string shown(const Ids& ids) {
    std::string text;
    for (const std::int32_t id : ids) text += std::to_string(id) + ' ';
    return text;
}

}  // namespace

TEST(a_directory_without_a_tokenizer_has_none) {
    const model_files::TemporaryDirectory directory;
    CHECK(Tokenizer::load(directory.path()) == nullptr);
    CHECK(Tokenizer::load(directory.path() / "none") == nullptr);
}

TEST(unigram_takes_the_best_sum_and_joins_what_it_does_not_know) {
    const auto tokenizer = load(unigram());
    CHECK_EQUAL(tokenizer->size(), 8);
    CHECK_EQUAL(shown(tokenizer->encode("a bbb", true)), "0 5 3 6 7 1 ");
    CHECK_EQUAL(shown(tokenizer->encode("a bbb", false)), "5 3 6 7 ");
    CHECK_EQUAL(shown(tokenizer->encode("xyzb", false)), "3 2 6 ");
    CHECK_EQUAL(shown(tokenizer->encode("", true)), "0 1 ");
    CHECK_EQUAL(tokenizer->decode(Ids{0, 5, 3, 7, 6, 1}), "B bbb");
    CHECK_EQUAL(tokenizer->piece(5), "▁B");
    CHECK_EQUAL(tokenizer->piece(-1), "");
    CHECK_EQUAL(tokenizer->piece(8), "");
}

TEST(ids_that_do_not_exist_are_left_out_of_text) {
    const auto tokenizer = load(bpe());
    CHECK_EQUAL(tokenizer->decode(Ids{4, -1, 6, INT32_MAX, INT32_MIN, 5}), "ab ab");
}

TEST(bpe_merges_by_rank_and_leaves_out_what_it_cannot_say) {
    const auto tokenizer = load(bpe());
    CHECK_EQUAL(shown(tokenizer->encode("ab abab</s>", false)), "4 5 4 0 ");
    CHECK_EQUAL(shown(tokenizer->encode("azb", false)), "4 ");
    json file = bpe();
    file["model"]["merges"] = json::array({json::array({"a", "b"}), json::array({"Ġ", "ab"})});
    CHECK_EQUAL(shown(load(file)->encode("ab abab", false)), "4 5 4 ");
}

TEST(a_long_word_is_merged_as_a_short_one) {
    const auto tokenizer = load(bpe());
    std::string text;
    for (int i = 0; i < 50'000; ++i) text += "ab";
    const Ids ids = tokenizer->encode(text, false);
    CHECK_EQUAL(ids.size(), std::size_t{50'000});
    CHECK(ids == Ids(50'000, 4));
}

TEST(a_text_without_pieces_or_an_unknown_one_is_an_error) {
    json file = unigram();
    file["model"].erase("unk_id");
    CHECK_ERROR(load(file)->encode("x", false), ErrorCode::kInvalidArgument, "no unknown piece");
}

TEST(malformed_bytes_count_as_replacement_characters) {
    CHECK_EQUAL(text::replace_malformed("a\x80z"), "a\uFFFDz");
    CHECK_EQUAL(text::replace_malformed("\xE1\x80z"), "\uFFFDz");                // cut short: one
    CHECK_EQUAL(text::replace_malformed("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");  // a surrogate: one a byte
    CHECK_EQUAL(text::replace_malformed("\xC0\xAF"), "\uFFFD\uFFFD");            // overlong
    CHECK_EQUAL(text::replace_malformed("\xF4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");
    CHECK_EQUAL(text::replace_malformed("\xF0\x9F\x98"), "\uFFFD");
    const std::string good("a\0é\U0001F600", 8);
    CHECK_EQUAL(text::replace_malformed(good), good);
    CHECK_EQUAL(shown(load(unigram())->encode("\xFF"
                                              "b",
                                              false)),
                "3 2 6 ");
}

TEST(added_tokens_strip_and_keep_to_words) {
    json file = bpe();
    json token = added(6, "a", false);
    token["single_word"] = true;
    token["lstrip"] = true;
    token["rstrip"] = true;
    file["added_tokens"].push_back(token);
    // "a" is a piece already: the token has its id.
    CHECK_EQUAL(shown(load(file)->encode("ab  a  ab", false)), "4 1 4 ");
    token["content"] = "new";
    file["added_tokens"][1] = token;
    const auto tokenizer = load(file);
    CHECK_EQUAL(shown(tokenizer->encode("ab new ab anew", false)), "4 6 4 3 1 ");
    CHECK_EQUAL(tokenizer->size(), 7);
}

TEST(a_file_may_leave_out_every_part_but_the_model) {
    json file;
    file["model"] = bpe()["model"];
    const auto tokenizer = load(file);
    CHECK_EQUAL(shown(tokenizer->encode("abĠab</s>", true)), "4 5 ");
    CHECK_EQUAL(tokenizer->decode(Ids{4, 5}), "ab Ġab");
    CHECK_EQUAL(tokenizer->size(), 6);
    CHECK_ERROR(load(json::object()), ErrorCode::kModelFile, "model: found nothing");
}

TEST(metaspace_may_say_in_the_old_way_that_nothing_is_prepended) {
    json file = unigram();
    for (const char* part : {"pre_tokenizer", "decoder"}) {
        file[part] = {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"add_prefix_space", false}};
    }
    CHECK_EQUAL(shown(load(file)->encode("b", false)), "6 ");
    CHECK_EQUAL(load(file)->decode(Ids{5}), " B");
}

TEST(a_decoder_strips_both_ends) {
    json file = bpe();
    file["decoder"] = {
        {"type", "Sequence"},
        {"decoders", {{{"type", "Fuse"}}, {{"type", "Strip"}, {"content", "a"}, {"start", 1}, {"stop", 2}}}}};
    CHECK_EQUAL(load(file)->decode(Ids{1, 1, 2, 1, 1, 1}), "aba");
}

TEST(neighbouring_matches_may_stay_one_word) {
    json file = bpe();
    file["model"]["vocab"]["aa"] = 6;
    file["model"]["merges"].push_back("a a");
    const auto split = [&](const char* behavior) {
        file["pre_tokenizer"] = {
            {"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", behavior}, {"invert", false}};
        return shown(load(file)->encode("aab", false));
    };
    CHECK_EQUAL(split("Contiguous"), "6 2 ");
    CHECK_EQUAL(split("Isolated"), "1 1 2 ");
}

TEST(target_text_is_what_comes_behind_the_prefix) {
    const auto tokenizer = load(bpe());
    const std::vector<std::string> stop = {"b a", "ba"};
    const TargetText target(*tokenizer, Ids{4}, stop);
    CHECK_EQUAL(target.whole(Ids{5, 1}), " aba");
    CHECK(target.stopped(Ids{5, 1}));
    CHECK_EQUAL(target.cut(Ids{5, 1}), " a");
    CHECK(!target.stopped(Ids{5}));
    CHECK_EQUAL(target.cut(Ids{5}), " ab");
    CHECK(!target.certain(Ids{5}));  // "b" begins both
    CHECK(target.certain(Ids{5, 1, 1}));
    CHECK(target.certain(Ids{}));
}

TEST(half_a_character_is_not_certain) {
    json file = bpe();
    file["model"]["vocab"]["Ã"] = 6;  // the first byte of é
    file["model"]["vocab"]["©"] = 7;
    const auto tokenizer = load(file);
    const TargetText target(*tokenizer, Ids{}, {});
    CHECK(!target.certain(Ids{1, 6}));
    CHECK(target.certain(Ids{1, 6, 7}));
    CHECK_EQUAL(target.whole(Ids{1, 6, 7}), "aé");
}

TEST(threads_share_a_tokenizer) {
    const auto tokenizer = load(unigram());
    const Ids expected = tokenizer->encode("a bbb b\u0301 x", true);
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int j = 0; j < 200; ++j) wrong += tokenizer->encode("a bbb b\u0301 x", true) != expected;
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(wrong.load(), 0);
}
