// A backend that has memory and no ops: what loading and scratch memory need. With its own memory, or sharing the
// host's.
#pragma once

#include <cstdlib>
#include <cstring>
#include <set>
#include <string>

#include "core/error.h"
#include "ops/backend.h"

class HostBackend final : public lrengine::Backend {
public:
    enum class Memory { kShared, kOwn };

    explicit HostBackend(Memory memory = Memory::kShared) : memory_(memory) {}

    std::set<void*> blocks;            // not given back yet
    std::size_t uploaded = 0;          // bytes of copy_to_device
    std::size_t limit = SIZE_MAX / 2;  // a larger request fails

    std::string device() const override { return "test"; }
    lrengine::DType activation_dtype() const override { return lrengine::DType::kFloat32; }
    bool shares_host_memory() const override { return memory_ == Memory::kShared; }

    void* allocate(std::size_t bytes) override {
        void* block = bytes <= limit ? std::aligned_alloc(64, (bytes + 63) / 64 * 64) : nullptr;
        if (block == nullptr) lrengine::fail(lrengine::ErrorCode::kOutOfMemory, "test backend: no memory");
        blocks.insert(block);
        return block;
    }
    void deallocate(void* memory) noexcept override {
        blocks.erase(memory);
        std::free(memory);
    }
    void copy_to_device(void* destination, const void* source, std::size_t bytes) override {
        std::memcpy(destination, source, bytes);
        uploaded += bytes;
    }
    void copy_to_host(void* destination, const void* source, std::size_t bytes) override {
        std::memcpy(destination, source, bytes);
    }

    void embedding(const lrengine::EmbeddingArgs&) override { refuse(); }
    void linear(std::span<const lrengine::LinearArgs>) override { refuse(); }
    void norm(const lrengine::NormArgs&) override { refuse(); }
    void attention(const lrengine::AttentionArgs&) override { refuse(); }
    void cached_attention(const lrengine::CachedAttentionArgs&) override { refuse(); }
    void rope(const lrengine::RopeArgs&) override { refuse(); }
    void gated(const lrengine::GatedArgs&) override { refuse(); }
    void add(const lrengine::AddArgs&) override { refuse(); }
    void scatter_rows(const lrengine::ScatterRowsArgs&) override { refuse(); }
    void gather_rows(const lrengine::GatherRowsArgs&) override { refuse(); }
    void mean_pool(const lrengine::MeanPoolArgs&) override { refuse(); }
    void layer_mix(const lrengine::LayerMixArgs&) override { refuse(); }
    void mixer_attention(const lrengine::MixerAttentionArgs&) override { refuse(); }
    void top_k(const lrengine::TopKArgs&) override { refuse(); }
    void token_log_prob(const lrengine::TokenLogProbArgs&) override { refuse(); }

private:
    [[noreturn]] static void refuse() { lrengine::fail(lrengine::ErrorCode::kInternal, "this backend has no ops"); }

    Memory memory_;
};
