// A backend that hands every call on and counts allocations and readings of weights, with a cache of a size to choose.
#pragma once

#include <map>
#include <memory>
#include <set>

#include "ops/backend.h"

class CountingBackend final : public lrengine::Backend {
public:
    explicit CountingBackend(std::unique_ptr<lrengine::Backend> inner)
        : cache(inner->cache_bytes()), inner_(std::move(inner)) {}

    std::size_t allocations = 0, allocated_bytes = 0;
    std::size_t cache;
    std::map<const void*, int> readings;  // calls of linear() that read a weight, by its data

    std::string device() const override { return inner_->device(); }
    lrengine::DType activation_dtype() const override { return inner_->activation_dtype(); }
    bool shares_host_memory() const override { return inner_->shares_host_memory(); }
    std::size_t cache_bytes() const override { return cache; }
    void* allocate(std::size_t bytes) override {
        ++allocations;
        allocated_bytes += bytes;
        return inner_->allocate(bytes);
    }
    void deallocate(void* memory) noexcept override { inner_->deallocate(memory); }
    void copy_to_device(void* to, const void* from, std::size_t bytes) override {
        inner_->copy_to_device(to, from, bytes);
    }
    void copy_to_host(void* to, const void* from, std::size_t bytes) override { inner_->copy_to_host(to, from, bytes); }

    void embedding(const lrengine::EmbeddingArgs& args) override { inner_->embedding(args); }
    void linear(std::span<const lrengine::LinearArgs> products) override {
        std::set<const void*> weights;
        for (const lrengine::LinearArgs& product : products) weights.insert(product.weight.data);
        for (const void* weight : weights) ++readings[weight];
        inner_->linear(products);
    }
    void norm(const lrengine::NormArgs& args) override { inner_->norm(args); }
    void attention(const lrengine::AttentionArgs& args) override { inner_->attention(args); }
    void cached_attention(const lrengine::CachedAttentionArgs& args) override { inner_->cached_attention(args); }
    void rope(const lrengine::RopeArgs& args) override { inner_->rope(args); }
    void gated(const lrengine::GatedArgs& args) override { inner_->gated(args); }
    void add(const lrengine::AddArgs& args) override { inner_->add(args); }
    void scatter_rows(const lrengine::ScatterRowsArgs& args) override { inner_->scatter_rows(args); }
    void gather_rows(const lrengine::GatherRowsArgs& args) override { inner_->gather_rows(args); }
    void mean_pool(const lrengine::MeanPoolArgs& args) override { inner_->mean_pool(args); }
    void layer_mix(const lrengine::LayerMixArgs& args) override { inner_->layer_mix(args); }
    void mixer_attention(const lrengine::MixerAttentionArgs& args) override { inner_->mixer_attention(args); }
    void top_k(const lrengine::TopKArgs& args) override { inner_->top_k(args); }
    void token_log_prob(const lrengine::TokenLogProbArgs& args) override { inner_->token_log_prob(args); }

private:
    std::unique_ptr<lrengine::Backend> inner_;
};
