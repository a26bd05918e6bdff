// Decoding over both families: steps against teacher forcing, batches against single rows, shared history against
// copies.
#include <functional>

#include "harness.h"
#include "tiny_models.h"

using namespace lrengine;
using tiny::Ids;

namespace {

struct Family {
    std::string name;
    std::function<void(tiny::Directory&)> write;
    Ids prompt, forced;
    std::int64_t vocab;
};

std::vector<Family> families() {
    const auto swcm = [](tiny::SwcmOptions options) {
        return [options](tiny::Directory& directory) { tiny::write_swcm(directory, options); };
    };
    return {
        {"swcm post", swcm({}), {}, {0}, tiny::kVocab},
        {"swcm published", swcm({.norm_style = "published", .tied_output = false}), {}, {0, 7}, tiny::kVocab},
        {"swcm tied", swcm({.sharing = "tied"}), {}, {0}, tiny::kVocab},
        {"fusion", [](tiny::Directory& directory) { tiny::write_fusion(directory); }, {4, 5}, {}, tiny::kLlmVocab},
        {"fusion with a prefix",
         [](tiny::Directory& directory) { tiny::write_fusion(directory); },
         {},
         {9},
         tiny::kLlmVocab},
    };
}

void for_each_family(const std::function<void(const Family&, const Model&)>& body) {
    for (const Family& family : families()) {
        tiny::Directory directory;
        family.write(directory);
        const int before = harness::failures();
        body(family, *tiny::load(directory));
        if (harness::failures() != before) std::cerr << "  in " << family.name << '\n';
    }
}

// Logits before each of `tokens` and after the last: prefill, then one step a token, at batch 1.
std::vector<std::vector<float>> decode(const Model& model, const GenerationSource& source, const Ids& tokens) {
    const auto state = model.generator()->begin({&source, 1}, 1, static_cast<std::int64_t>(tokens.size()) + 1);
    std::vector<std::vector<float>> logits{tiny::row(tiny::prefill(*state), 0)};
    auto length = static_cast<std::int32_t>(state->prefill_length(0));
    const Ids zero{0};
    for (const std::int32_t token : tokens) {
        const Ids tokens_now{token}, lengths{length++};
        logits.push_back(tiny::row(tiny::step(*state, {tokens_now, zero, zero, lengths, {}}), 0));
    }
    return logits;
}

}  // namespace

TEST(stepping_gives_the_log_probs_of_teacher_forcing) {
    for_each_family([](const Family& family, const Model& model) {
        for (const std::size_t length : {0, 1, 13}) {
            const Ids source = tiny::some_ids(length, 1), target = tiny::some_ids(6, 2, family.vocab);
            const std::vector<GenerationSource> sources = tiny::one(source, family.prompt, family.forced);
            const std::vector<std::span<const std::int32_t>> targets{target};
            const std::vector<float> scores = model.generator()->score(sources, targets)[0];
            const auto logits = decode(model, sources[0], target);
            REQUIRE(scores.size() == target.size());
            for (std::size_t t = 0; t < target.size(); ++t) {
                CHECK(std::abs(scores[t] - tiny::log_prob(logits[t], target[t])) < 2e-5);
            }
        }
    });
}

TEST(a_row_does_not_depend_on_its_batch) {
    for_each_family([](const Family& family, const Model& model) {
        constexpr std::size_t kRows = 8;
        std::vector<Ids> sources, forced;
        for (std::size_t b = 0; b < kRows; ++b) {
            sources.push_back(tiny::some_ids(b * 5, static_cast<unsigned>(b)));
            forced.push_back(family.forced);
            forced.back().resize(forced.back().size() + b % 3, 11);
        }
        std::vector<GenerationSource> batch;
        for (std::size_t b = 0; b < kRows; ++b) batch.push_back({sources[b], family.prompt, forced[b]});
        const auto state = model.generator()->begin(batch, 2, 4);
        std::vector<std::vector<float>> first, second;
        const Matrix prefill = tiny::prefill(*state);
        Ids tokens, slots, rows, lengths;
        for (std::size_t b = 0; b < kRows; ++b) {
            const auto index = static_cast<std::int32_t>(b);
            first.push_back(tiny::row(prefill, index));
            tokens.push_back(5 + index);
            slots.push_back(2 * index);
            rows.push_back(index);
            lengths.push_back(static_cast<std::int32_t>(state->prefill_length(index)));
        }
        const Matrix step = tiny::step(*state, {tokens, slots, rows, lengths, {}});
        for (std::size_t b = 0; b < kRows; ++b) second.push_back(tiny::row(step, static_cast<std::int64_t>(b)));
        for (std::size_t b = 0; b < kRows; ++b) {
            const auto alone = decode(model, batch[b], {tokens[b]});
            CHECK(first[b] == alone[0]);
            CHECK(second[b] == alone[1]);
        }
    });
}

// Two beams that part after their first common token: the second one reads the first one's slot for what they share.
TEST(a_history_table_stands_for_copied_caches) {
    for_each_family([](const Family& family, const Model& model) {
        const Ids source = tiny::some_ids(9, 3);
        const std::vector<GenerationSource> sources = tiny::one(source, family.prompt, family.forced);
        const auto state = model.generator()->begin(sources, 2, 4);
        state->prefill({});
        const auto start = static_cast<std::int32_t>(state->prefill_length(0));
        const auto capacity = static_cast<std::size_t>(state->capacity());
        // Position t of both rows is in slot 0 until they part at `start + 1`; row 1 then has its own.
        Ids history(2 * capacity, 0);
        state->step({Ids{6}, Ids{0}, Ids{0}, Ids{start}, std::span(history).first(capacity)});
        history[capacity + static_cast<std::size_t>(start) + 1] = 1;
        history[capacity + static_cast<std::size_t>(start) + 2] = 1;
        const Ids slots{0, 1}, both{0, 0}, next{start + 1, start + 1}, after{start + 2, start + 2};
        state->step({Ids{7, 8}, slots, both, next, history});
        const Matrix logits = tiny::step(*state, {Ids{9, 10}, slots, both, after, history});
        CHECK(tiny::row(logits, 0) == decode(model, sources[0], {6, 7, 9}).back());
        CHECK(tiny::row(logits, 1) == decode(model, sources[0], {6, 8, 10}).back());
    });
}

TEST(prefilling_again_starts_over) {
    for_each_family([](const Family& family, const Model& model) {
        const Ids source = tiny::some_ids(4, 8);
        const std::vector<GenerationSource> sources = tiny::one(source, family.prompt, family.forced);
        const auto state = model.generator()->begin(sources, 1, 3);
        const auto first = tiny::row(tiny::prefill(*state), 0);
        state->step({Ids{6}, Ids{0}, Ids{0}, Ids{static_cast<std::int32_t>(state->prefill_length(0))}, {}});
        CHECK(tiny::row(tiny::prefill(*state), 0) == first);
    });
}

TEST(scoring_many_long_rows_in_pieces_changes_nothing) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto model = tiny::load(directory);
    constexpr std::size_t kRows = 90;  // 35 source and 31 fed rows each: more than one pass takes
    std::vector<Ids> sources, targets;
    const Ids start{0};
    for (unsigned b = 0; b < kRows; ++b) {
        sources.push_back(tiny::some_ids(35, b));
        targets.push_back(tiny::some_ids(b == 5 ? 0 : 31, b + 1000));
    }
    std::vector<GenerationSource> batch;
    for (const Ids& source : sources) batch.push_back({source, {}, start});
    const std::vector<std::span<const std::int32_t>> wanted(targets.begin(), targets.end());
    const auto scores = model->generator()->score(batch, wanted);
    CHECK(scores[5].empty());
    for (const std::size_t b : {std::size_t{0}, std::size_t{41}, kRows - 1}) {
        const auto alone = model->generator()->score(std::span(batch).subspan(b, 1), std::span(wanted).subspan(b, 1));
        CHECK_EQUAL(scores[b].size(), std::size_t{31});
        CHECK(scores[b] == alone[0]);
    }
}
