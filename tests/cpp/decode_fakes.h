// A generator without weights: logits are a function of the source and of the tokens that the cache says were fed, so a
// search that reads or writes the wrong cache slot gets other logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "decode/random.h"
#include "decode/search.h"
#include "models/generator.h"
#include "ops/backend.h"

namespace fakes {

using Ids = std::vector<std::int32_t>;

// Logits that follow `history` for `source`; spread out so that no two are nearly equal.
inline std::vector<float> logits_after(const Ids& source, const Ids& history, std::int64_t vocab) {
    const std::uint64_t stream = lrengine::mix_hash(lrengine::mix_hash(7, source), history);
    const lrengine::RandomStream random(1, stream);
    std::vector<float> logits;
    for (std::int64_t id = 0; id < vocab; ++id) {
        logits.push_back(static_cast<float>(6.0 * random.uniform(0, static_cast<std::uint32_t>(id)) - 3.0));
    }
    return logits;
}

// Only what decoding uses of a backend.
class HostBackend : public lrengine::Backend {
public:
    std::string device() const override { return "cpu"; }
    lrengine::DType activation_dtype() const override { return lrengine::DType::kFloat32; }
    bool shares_host_memory() const override { return true; }
    void* allocate(std::size_t bytes) override { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); }
    void deallocate(void* memory) noexcept override { std::free(memory); }
    void copy_to_device(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }
    void copy_to_host(void* to, const void* from, std::size_t bytes) override { std::memcpy(to, from, bytes); }

    void top_k(const lrengine::TopKArgs& args) override {
        for (std::int64_t row = 0; row < args.logits.rows; ++row) {
            const float* logits = args.logits.row<float>(row);
            std::vector<std::int32_t> order(static_cast<std::size_t>(args.logits.cols));
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
            for (std::int64_t i = 0; i < args.k; ++i) {
                args.ids[row * args.k + i] = order[static_cast<std::size_t>(i)];
                args.values.row<float>(row)[i] = logits[order[static_cast<std::size_t>(i)]];
            }
            double sum = 0.0;
            for (std::int64_t id = 0; id < args.logits.cols; ++id) sum += std::exp(static_cast<double>(logits[id]));
            args.log_sum_exp[row] = static_cast<float>(std::log(sum));
        }
    }

    void embedding(const lrengine::EmbeddingArgs&) override { unused(); }
    void linear(std::span<const lrengine::LinearArgs>) override { unused(); }
    void norm(const lrengine::NormArgs&) override { unused(); }
    void attention(const lrengine::AttentionArgs&) override { unused(); }
    void cached_attention(const lrengine::CachedAttentionArgs&) override { unused(); }
    void rope(const lrengine::RopeArgs&) override { unused(); }
    void gated(const lrengine::GatedArgs&) override { unused(); }
    void add(const lrengine::AddArgs&) override { unused(); }
    void scatter_rows(const lrengine::ScatterRowsArgs&) override { unused(); }
    void gather_rows(const lrengine::GatherRowsArgs&) override { unused(); }
    void mean_pool(const lrengine::MeanPoolArgs&) override { unused(); }
    void layer_mix(const lrengine::LayerMixArgs&) override { unused(); }
    void mixer_attention(const lrengine::MixerAttentionArgs&) override { unused(); }
    void token_log_prob(const lrengine::TokenLogProbArgs&) override { unused(); }

private:
    [[noreturn]] static void unused() { lrengine::fail(lrengine::ErrorCode::kInternal, "not part of decoding"); }
};

class FakeState : public lrengine::DecodeState {
public:
    FakeState(std::span<const lrengine::GenerationSource> sources, std::int64_t rows_per_source,
              std::int64_t max_new_tokens, std::int64_t vocab)
        : vocab_(vocab) {
        std::int64_t longest = 0;
        for (const auto& source : sources) {
            sources_.emplace_back(source.source.begin(), source.source.end());
            forced_.emplace_back(source.forced.begin(), source.forced.end());
            longest = std::max(longest, static_cast<std::int64_t>(source.forced.size()));
        }
        capacity_ = longest + max_new_tokens;
        rows_per_source_ = rows_per_source;
        const auto slots = sources.size() * static_cast<std::size_t>(rows_per_source);
        cache_.assign(slots, Ids(static_cast<std::size_t>(capacity_), -1));
    }

    void prefill(const lrengine::Interruption&) override {
        std::vector<std::vector<float>> rows;
        for (std::size_t source = 0; source < sources_.size(); ++source) {
            Ids& slot = cache_[source * static_cast<std::size_t>(rows_per_source_)];
            std::copy(forced_[source].begin(), forced_[source].end(), slot.begin());
            rows.push_back(logits_after(sources_[source], forced_[source], vocab_));
        }
        keep(rows);
    }

    std::int64_t prefill_length(std::int64_t source) const override {
        return static_cast<std::int64_t>(forced_[static_cast<std::size_t>(source)].size());
    }

    void step(const lrengine::StepInput& input) override {
        fed_rows.push_back(input.tokens.size());
        std::vector<std::vector<float>> rows;
        for (std::size_t row = 0; row < input.tokens.size(); ++row) {
            const auto length = static_cast<std::size_t>(input.lengths[row]);
            const auto own = static_cast<std::size_t>(input.slots[row]);
            cache_.at(own).at(length) = input.tokens[row];
            Ids history;
            for (std::size_t t = 0; t <= length; ++t) {
                const auto slot =
                    input.history.empty()
                        ? own
                        : static_cast<std::size_t>(input.history[row * static_cast<std::size_t>(capacity_) + t]);
                history.push_back(cache_.at(slot).at(t));
            }
            rows.push_back(logits_after(sources_.at(static_cast<std::size_t>(input.sources[row])), history, vocab_));
        }
        keep(rows);
    }

    std::int64_t capacity() const override { return capacity_; }
    lrengine::Matrix logits() override {
        return {logits_.data(), lrengine::DType::kFloat32, static_cast<std::int64_t>(logits_.size()) / vocab_, vocab_,
                vocab_};
    }
    void select(const lrengine::TopTokens& out) override { selection_ = out; }
    lrengine::Backend& backend() override { return backend_; }

    static inline std::vector<std::size_t> fed_rows;  // rows of every step since a test cleared it

private:
    void keep(const std::vector<std::vector<float>>& rows) {
        logits_.clear();
        for (const auto& row : rows) logits_.insert(logits_.end(), row.begin(), row.end());
        lrengine::Matrix values = selection_.values;
        values.rows = static_cast<std::int64_t>(rows.size());
        backend_.top_k({.logits = logits(),
                        .k = selection_.k,
                        .values = values,
                        .ids = selection_.ids,
                        .log_sum_exp = selection_.log_sum_exp});
    }

    std::int64_t vocab_, capacity_ = 0, rows_per_source_ = 1;
    std::vector<Ids> sources_, forced_, cache_;
    std::vector<float> logits_;
    lrengine::TopTokens selection_;
    HostBackend backend_;
};

class FakeGenerator : public lrengine::Generator {
public:
    explicit FakeGenerator(std::int64_t vocab, std::int64_t max_length = 0) : vocab_(vocab), max_length_(max_length) {}

    std::int64_t vocab_size() const override { return vocab_; }
    std::int64_t max_length() const override { return max_length_; }
    std::unique_ptr<lrengine::DecodeState> begin(std::span<const lrengine::GenerationSource> sources,
                                                 std::int64_t rows_per_source,
                                                 std::int64_t max_new_tokens) const override {
        return std::make_unique<FakeState>(sources, rows_per_source, max_new_tokens, vocab_);
    }
    void check(std::span<const lrengine::GenerationSource>,
               std::span<const std::span<const std::int32_t>>) const override {}
    std::vector<std::vector<float>> score(std::span<const lrengine::GenerationSource>,
                                          std::span<const std::span<const std::int32_t>>,
                                          const lrengine::Interruption&) const override {
        return {};
    }

private:
    std::int64_t vocab_, max_length_;
};

// A batch of sources, each with one forced token, and a search over it.
struct Batch {
    std::vector<Ids> sources;
    std::vector<Ids> forced;

    explicit Batch(std::vector<Ids> ids) : sources(std::move(ids)), forced(sources.size(), Ids{0}) {}

    std::unique_ptr<lrengine::Search> start(const FakeGenerator& generator, const lrengine::GenerationOptions& options,
                                            Ids end_tokens, lrengine::StopHook stop = {}) const {
        std::vector<lrengine::GenerationSource> views;
        for (std::size_t i = 0; i < sources.size(); ++i) views.push_back({sources[i], {}, forced[i]});
        return lrengine::start_search(generator, {views, options, std::move(end_tokens), std::move(stop)});
    }

    std::vector<std::vector<lrengine::Hypothesis>> run(std::int64_t vocab, const lrengine::GenerationOptions& options,
                                                       Ids end_tokens, lrengine::StopHook stop = {}) const {
        const FakeGenerator generator(vocab);
        auto search = start(generator, options, std::move(end_tokens), std::move(stop));
        while (!search->done()) search->step();
        return search->results();
    }
};

}  // namespace fakes
