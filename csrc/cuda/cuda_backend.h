// The CUDA implementation of every op. One object is one stream: a session has its own; weights are shared.
#pragma once

#include <memory>
#include <set>

#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/relay.h"
#include "ops/backend.h"

namespace lrengine::cuda {

// Activations may be float32, bfloat16 or float16, and every argument of an op its own: kernels convert as they load.
class CudaBackend final : public Backend {
public:
    // `activations`: element type of Workspace::matrix(): bfloat16, float16 or float32.
    CudaBackend(std::shared_ptr<Device> device, DType activations);
    ~CudaBackend() override;

    std::string device() const override { return device_->name(); }
    DType activation_dtype() const override { return activations_; }
    bool shares_host_memory() const override { return false; }
    std::size_t cache_bytes() const override { return device_->cache_bytes(); }
    void* allocate(std::size_t bytes) override;
    void deallocate(void* memory) noexcept override;
    void copy_to_device(void* destination, const void* source, std::size_t bytes) override;
    void copy_to_host(void* destination, const void* source, std::size_t bytes) override;
    std::shared_ptr<Backend> fork() override;
    void expect_weights(DType dtype) override;
    using Backend::repeat;
    void repeat(std::span<const std::uint64_t> signature, const std::function<void()>& ops) override;
    void forget() noexcept override;
    std::int64_t launches() const override { return device_->launches(); }

    using Backend::linear;
    void embedding(const EmbeddingArgs& args) override;
    void linear(std::span<const LinearArgs> products) override;
    void norm(const NormArgs& args) override;
    void attention(const AttentionArgs& args) override;
    void cached_attention(const CachedAttentionArgs& args) override;
    void rope(const RopeArgs& args) override;
    void gated(const GatedArgs& args) override;
    void add(const AddArgs& args) override;
    void scatter_rows(const ScatterRowsArgs& args) override;
    void gather_rows(const GatherRowsArgs& args) override;
    void mean_pool(const MeanPoolArgs& args) override;
    void layer_mix(const LayerMixArgs& args) override;
    void mixer_attention(const MixerAttentionArgs& args) override;
    void top_k(const TopKArgs& args) override;
    bool projects_top_k() const override { return true; }
    void project_top_k(const ProjectTopKArgs& args) override;
    void token_log_prob(const TokenLogProbArgs& args) override;

    bool runs_ahead() const override { return true; }
    void process_scores(const ProcessScoresArgs& args) override;
    void sample_tokens(const SampleTokensArgs& args) override;
    void take_tokens(const TakeTokensArgs& args) override;
    void take_beams(const TakeBeamsArgs& args) override;
    void* mailbox(std::size_t bytes) override;
    void mark(std::int64_t index) override;
    void await(std::int64_t index) override;

    void normed_linear(const NormedLinearArgs& args) override;
    void project_heads(const ProjectHeadsArgs& args) override;
    void gated_linear(const GatedLinearArgs& args) override;
    void mixed_linear(const MixedLinearArgs& args) override;
    void attend_project(const AttendProjectArgs& args) override;
    void feed_forward(const FeedForwardArgs& args) override;

    LaunchQueue& queue() { return queue_; }

private:
    // Device memory for the length of one op: at least `bytes`, 256-byte aligned; the next call may hand out the same
    // memory, which the stream's order makes safe. Grows outside of graph capture only.
    void* scratch(std::size_t bytes);

    // The calls of `ops` as a graph.
    GraphCache::Recording record(const std::function<void()>& ops);
    // With what the calls depend on beside their arguments.
    GraphCache::Signature complete(std::span<const std::uint64_t> signature) const;
    // Counters for one launch of two halves; null where there are to be none.
    RelayCounters* next_relay();
    // Waits for everything that was asked for.
    void synchronize();

    std::shared_ptr<Device> device_;
    DType activations_;
    LaunchQueue queue_;
    Device::Lane lane_;
    std::size_t staged_ = 0;  // of it, in use by copies that may not be done
    unsigned relays_taken_ = 0;
    bool recording_ = false;
    std::set<GraphCache::Signature> met_;  // run by this session as they are, so that all memory is there
};

}  // namespace lrengine::cuda
