// The CPU's implementation of every op: checks, partition into pieces for the threads, and the kernels of one
// instruction set.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

#include "core/block_cache.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "ops/backend.h"
#include "ops/cpu_kernels.h"

#if defined(__SANITIZE_ADDRESS__)
#define LRENGINE_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#define LRENGINE_ADDRESS_SANITIZER __has_feature(address_sanitizer)
#else
#define LRENGINE_ADDRESS_SANITIZER 0
#endif

namespace lrengine {

struct Together;

// Several threads may call at once (sessions of one engine); their jobs take turns in the pool.
class CpuBackend final : public Backend {
public:
    CpuBackend(int threads, const CpuKernels& kernels) : pool_(threads), kernels_(kernels) {}

    std::string device() const override { return "cpu"; }
    DType activation_dtype() const override { return DType::kFloat32; }
    bool shares_host_memory() const override { return true; }
    void* allocate(std::size_t bytes) override;
    void deallocate(void* memory) noexcept override;
    void copy_to_device(void* destination, const void* source, std::size_t bytes) override;
    void copy_to_host(void* destination, const void* source, std::size_t bytes) override;

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
    void token_log_prob(const TokenLogProbArgs& args) override;
    void feed_forward(const FeedForwardArgs& args) override;

private:
    void linear_exact(std::span<const LinearArgs> products);
    void linear_rounded(std::span<const LinearArgs> products);
    void round(std::span<const RoundedRows> inputs);
    void multiply_rounded(std::span<const Together> together, std::int64_t work);

    // body(begin, end) over ranges that cover [0, count). `cost` is the work of one item, in elements read or computed
    // with: small jobs are not worth waking a thread.
    template <typename Body>
    void parallel(std::int64_t count, std::int64_t cost, const Body& body) {
        constexpr std::int64_t kWorthAThread = 16 * 1024;
        const std::int64_t grain = kWorthAThread / std::max<std::int64_t>(cost, 1) + 1;
        pool_.run(count, grain, std::ref(body));
    }

    // Bytes of blocks that the next request may take over: activations of some thousand tokens of a base model.
    // None under AddressSanitizer, which would not see their use after they were given back.
    static constexpr std::size_t kMostKept = LRENGINE_ADDRESS_SANITIZER ? 0 : std::size_t{64} << 20;

    BlockCache kept_{kMostKept};
    ThreadPool pool_;
    const CpuKernels& kernels_;
};

// A broken contract between a model and an op is a bug of ours, but must not become a wild write.
inline void expect(bool holds, const char* what) {
    if (!holds) fail(ErrorCode::kInternal, what);
}

// A float32 matrix [rows, cols].
inline bool has_shape(const Matrix& matrix, std::int64_t rows, std::int64_t cols) {
    return matrix.dtype == DType::kFloat32 && matrix.rows == rows && matrix.cols == cols && matrix.stride >= cols;
}

}  // namespace lrengine
