// What a device can do: memory, and one method an op. Models are written once against this class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/dtype.h"
#include "core/memory_use.h"
#include "core/tensor.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/fused.h"
#include "ops/layer_mix.h"
#include "ops/linear.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/sample_tokens.h"
#include "ops/select.h"
#include "ops/take_beams.h"
#include "ops/take_tokens.h"

namespace lrengine {

// Raised with any change to Backend or to the arguments of an op: a backend in a library of its own must have been
// built for the same number.
inline constexpr int kBackendInterface = 4;

// Integer inputs of ops (ids, positions, offsets, tables) lie in backend memory: put them there with copy_to_device().
// Calls are asynchronous on devices that are; copy_to_host() waits for what it reads.
class Backend {
public:
    virtual ~Backend() = default;

    virtual std::string device() const = 0;      // "cpu", "cuda:0"
    virtual DType activation_dtype() const = 0;  // of what products read and caches hold
    // Of the residual stream, norms and states of layers: sums over many layers, which 16 bits would spoil (and in
    // float16, overflow: mT5's reach 1e5).
    virtual DType residual_dtype() const { return DType::kFloat32; }
    virtual bool shares_host_memory() const = 0;  // mapped files can be used as weights in place
    // Of the cache that all of the device shares, where reading from it is much faster than reading from memory.
    virtual std::size_t cache_bytes() const { return 0; }
    // A backend on the same device for one session, which runs beside other sessions; weights made through this one
    // serve it. Null: this object serves all sessions itself.
    virtual std::shared_ptr<Backend> fork() { return nullptr; }
    // Told once, before weights are made, what the matrices of the model are stored as.
    virtual void expect_weights(DType) {}
    virtual void* allocate(std::size_t bytes) = 0;  // 64-byte aligned; Error(kOutOfMemory)
    virtual void deallocate(void* memory) noexcept = 0;
    virtual void copy_to_device(void* destination, const void* source, std::size_t bytes) = 0;
    virtual void copy_to_host(void* destination, const void* source, std::size_t bytes) = 0;

    virtual void embedding(const EmbeddingArgs& args) = 0;
    // Several products at once (q, k and v; gate and up; cross K/V of all layers): one launch, one job. They do not
    // read each other's outputs.
    virtual void linear(std::span<const LinearArgs> products) = 0;
    virtual void norm(const NormArgs& args) = 0;
    virtual void attention(const AttentionArgs& args) = 0;
    virtual void cached_attention(const CachedAttentionArgs& args) = 0;
    virtual void rope(const RopeArgs& args) = 0;
    virtual void gated(const GatedArgs& args) = 0;
    virtual void add(const AddArgs& args) = 0;
    virtual void scatter_rows(const ScatterRowsArgs& args) = 0;
    virtual void gather_rows(const GatherRowsArgs& args) = 0;
    virtual void mean_pool(const MeanPoolArgs& args) = 0;
    virtual void layer_mix(const LayerMixArgs& args) = 0;
    virtual void mixer_attention(const MixerAttentionArgs& args) = 0;
    virtual void top_k(const TopKArgs& args) = 0;
    virtual void token_log_prob(const TokenLogProbArgs& args) = 0;

    // Whether project_top_k() is there; elsewhere the same is linear() and top_k().
    virtual bool projects_top_k() const { return false; }
    virtual void project_top_k(const ProjectTopKArgs& args);

    void linear(const LinearArgs& product) { linear(std::span(&product, 1)); }

    // Chains: by default the ops that they stand for, one after the other.
    virtual void normed_linear(const NormedLinearArgs& args);
    virtual void project_heads(const ProjectHeadsArgs& args);
    virtual void gated_linear(const GatedLinearArgs& args);
    virtual void mixed_linear(const MixedLinearArgs& args);
    virtual void attend_project(const AttendProjectArgs& args);
    virtual void feed_forward(const FeedForwardArgs& args);

    // Runs `ops`, which with the same signature always makes the same calls with the same arguments, in this session
    // and in any other of this process; only what is in memory differs. A device may remember the calls and repeat them
    // as one. Nothing in `ops` waits for the device.
    virtual void repeat(std::span<const std::uint64_t> signature, const std::function<void()>& ops);
    void repeat(std::uint64_t signature, const std::function<void()>& ops) { repeat(std::span(&signature, 1), ops); }
    // The backend forgets what it remembers, before memory that was used goes back.
    virtual void forget() {}

    // Whether decode steps can follow each other without the host, which needs what comes next; elsewhere it is not
    // there.
    virtual bool runs_ahead() const { return false; }
    virtual void process_scores(const ProcessScoresArgs& args);
    virtual void sample_tokens(const SampleTokensArgs& args);
    virtual void take_tokens(const TakeTokensArgs& args);
    virtual void take_beams(const TakeBeamsArgs& args);
    // Host memory of this session that ops write to, at least `bytes`; the next call may give the same, or take it
    // back.
    virtual void* mailbox(std::size_t bytes);
    // Names a point in the order of the calls, 0 <= index < kStepRing; await() returns when what was asked for before
    // the last mark(index) is done, and what it wrote to the mailbox can be read.
    virtual void mark(std::int64_t index);
    virtual void await(std::int64_t index);

    // Kernels that repeat() has started on this device so far; 0 where there are none.
    virtual std::int64_t launches() const { return 0; }

    // What arenas of this backend and of its forks hold.
    MemoryUse& memory_use() const { return *memory_use_; }

private:
    friend std::shared_ptr<Backend> session_backend(const std::shared_ptr<Backend>& backend);

    std::shared_ptr<MemoryUse> memory_use_ = std::make_shared<MemoryUse>();
};

// The backend of a new session: a fork, or the backend itself.
std::shared_ptr<Backend> session_backend(const std::shared_ptr<Backend>& backend);

// threads = 0: as many as the process may use. The instruction set is the processor's best, chosen at run time;
// LRENGINE_ISA=NAME in the environment lowers it (docs/PERFORMANCE.md has the names; tests run all of them).
std::unique_ptr<Backend> make_cpu_backend(int threads);

// "avx512_vnni", ..., "portable": what make_cpu_backend would use now.
std::string cpu_isa();

}  // namespace lrengine
