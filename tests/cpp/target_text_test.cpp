// What is told of a row while it is written, against the text that it has in the end.
#include "text/target_text.h"

#include <functional>

#include "harness.h"
#include "tokenizer_files.h"

using namespace lrengine;
using namespace tokenizer_files;
using Ids = std::vector<std::int32_t>;

namespace {

// Pieces of bytes, letters and a word; `decoders` follow Llama 2's: bytes become characters before all is fused.
std::unique_ptr<Tokenizer> byte_fallback() {
    json vocabulary = json::array();
    for (const char* piece : {"<unk>", "</s>", "<0xE4>", "<0xBB>", "<0x8A>", "<0x0A>", "\u2581a", "b", "<0xC3>"}) {
        vocabulary.push_back(json::array({piece, -1.0}));
    }
    json file = {{"version", "1.0"},
                 {"added_tokens", json::array({added(1, "</s>", true)})},
                 {"model", {{"type", "Unigram"}, {"unk_id", 0}, {"byte_fallback", true}, {"vocab", vocabulary}}},
                 {"decoder",
                  {{"type", "Sequence"},
                   {"decoders",
                    {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                     {{"type", "ByteFallback"}},
                     {{"type", "Fuse"}},
                     {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}}};
    return load(file);
}

// Every row of up to `length` tokens of `alphabet`.
void for_every_row(const Ids& alphabet, std::size_t length, const std::function<void(const Ids&)>& visit) {
    Ids row;
    const std::function<void()> extend = [&] {
        if (!row.empty()) visit(row);
        if (row.size() == length) return;
        for (const std::int32_t token : alphabet) {
            row.push_back(token);
            extend();
            row.pop_back();
        }
    };
    extend();
}

// The text that is told token by token: what is certain, and all of it with the last token.
std::string streamed(const TargetText& target, const Ids& row) {
    std::string told;
    for (std::size_t length = 1; length <= row.size(); ++length) {
        const std::span<const std::int32_t> tokens(row.data(), length);
        const std::string text = target.cut(tokens);
        if (length < row.size() && !(text.starts_with(told) && target.certain(tokens))) continue;
        told += text.substr(std::min(told.size(), text.size()));
    }
    return told;
}

}  // namespace

TEST(what_is_told_of_byte_tokens_adds_up_to_the_text) {
    const auto tokenizer = byte_fallback();
    const Ids alphabet = {1, 2, 3, 4, 5, 6, 7};
    for (const Ids& prefix : {Ids{}, Ids{6}, Ids{2}, Ids{2, 3, 4}}) {
        const TargetText target(*tokenizer, prefix, {});
        std::size_t rows = 0;
        for_every_row(alphabet, 5, [&](const Ids& row) {
            if (streamed(target, row) != target.cut(row)) {
                std::string shown;
                for (const std::int32_t token : row) shown += tokenizer->piece(token);
                harness::report(__FILE__, __LINE__, shown + ": told \"" + streamed(target, row) + "\"");
            }
            ++rows;
        });
        CHECK_EQUAL(rows, 7u + 49 + 343 + 2401 + 16807);
    }
}

// A character whose bytes are all there is undone by a byte that is none of the next: the whole run is replaced.
TEST(a_run_of_bytes_is_uncertain_until_it_is_over) {
    const auto tokenizer = byte_fallback();
    const TargetText target(*tokenizer, {}, {});
    const auto certain = [&](const Ids& tokens) { return target.certain(tokens); };
    CHECK_EQUAL(target.cut(Ids{2, 3, 4}), "\xe4\xbb\x8a");
    CHECK_EQUAL(target.cut(Ids{2, 3, 4, 2}), "\ufffd\ufffd\ufffd\ufffd");
    CHECK(!certain({2, 3, 4}) && !certain({2, 3, 4, 2, 3, 4}) && !certain({5}) && !certain({2, 3, 4, 1}));
    CHECK(certain({2, 3, 4, 7}) && certain({5, 6}) && certain({7}) && certain({6}));
}

TEST(stop_strings_and_byte_tokens_together_add_up) {
    const auto tokenizer = byte_fallback();
    const std::vector<std::string> stop = {"\n\n", "ab"};
    const TargetText target(*tokenizer, {}, stop);
    for_every_row({2, 3, 4, 5, 6, 7}, 4, [&](const Ids& row) {
        // A row ends at the token that completes a stop string.
        for (std::size_t length = 1; length < row.size(); ++length) {
            if (target.stopped(std::span(row.data(), length))) return;
        }
        CHECK_EQUAL(streamed(target, row), target.cut(row));
    });
}
