// A GPU: what it can do, and the libraries that every session on it shares.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cuda/graph_cache.h"
#include "cuda/matmul_library.h"
#include "cuda/relay.h"
#include "cuda/status.h"
#include "ops/take_tokens.h"

namespace lrengine::cuda {

class Device {
public:
    // Throws Error(kDevice): no driver, a driver older than this build needs, no such device, a compute capability
    // below 8.0, no cuBLASLt.
    explicit Device(int index);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    std::string name() const;  // "cuda:0"
    int index() const { return index_; }
    int processors() const { return processors_; }            // streaming multiprocessors
    int compute_capability() const { return capability_; }    // 90 for 9.0
    std::size_t shared_per_block() const { return shared_; }  // that a kernel can opt in to, bytes
    std::size_t cache_bytes() const { return cache_; }        // of the second level
    bool overlaps_launches() const { return overlaps_; }

    // Whether dependent halves of a layer may be one launch; LRENGINE_CUDA_FUSE=0 turns it off.
    bool fuses_halves() const { return fusion_wanted_; }

    // Makes this device the calling thread's.
    void use() const;

    MatmulLibrary& matmul() { return *matmul_; }

    // What a session works with: a stream, page-locked host memory that its small copies go through, more that kernels
    // write results to, the events that say when they are there, scratch memory of ops, and the steps that were
    // recorded with all of it.
    struct Lane {
        cudaStream_t stream = nullptr;
        char* staging = nullptr;
        void* mailbox = nullptr;
        std::size_t mailbox_bytes = 0;
        std::array<cudaEvent_t, kStepRing> marks{};
        void* scratch = nullptr;  // device memory
        std::size_t scratch_bytes = 0;
        RelayCounters* relays = nullptr;  // kRelays, in device memory: graphs name them
        std::unique_ptr<GraphCache> graphs;
    };
    static constexpr std::size_t kStagingBytes = std::size_t{256} << 10;
    static constexpr std::size_t kRelays = 8;

    // Thread-safe; the calling thread uses this device. Throws Error(kOutOfMemory | kDevice). A lane that is kept
    // serves a later session: page-locking stops the device, and what libraries hold for a stream stays with it.
    Lane take_lane();
    void give_back(Lane&& lane, bool keep) noexcept;
    // To at least `bytes`; contents are lost. The lane's stream is idle.
    static void grow_mailbox(Lane& lane, std::size_t bytes);

    // Kernels started by repeated steps, for what a benchmark prints.
    void count_launches(std::int64_t kernels) { launches_ += kernels; }
    std::int64_t launches() const { return launches_; }

    // Thread-safe; the calling thread uses this device. Throws Error(kOutOfMemory). Memory that is kept on deallocation
    // serves later requests of its size without the driver, which would stop the whole device; it must no longer be
    // used by any stream. Of several pieces the lowest goes first, so that the same requests, one session after the
    // other, get the same addresses. At most an eighth of the device's memory is kept, the last that came.
    void* allocate(std::size_t bytes);
    void deallocate(void* memory, bool keep) noexcept;

private:
    static constexpr std::size_t kLargeBlock = std::size_t{2} << 20;  // the driver's own unit

    using Spare = std::map<std::pair<std::size_t, void*>, std::uint64_t>;

    // With the lock held.
    void drop_spare(Spare::iterator spare) noexcept;
    bool drop_spare_memory() noexcept;  // false: there was none
    void drop_scratch(Lane& lane) noexcept;
    static void destroy(Lane& lane) noexcept;

    int index_;
    int processors_ = 0;
    int capability_ = 0;
    std::size_t shared_ = 0;
    std::size_t cache_ = 0;
    bool overlaps_ = false;  // LRENGINE_CUDA_OVERLAP=0 turns it off
    bool fusion_wanted_ = true;
    std::unique_ptr<MatmulLibrary> matmul_;
    std::atomic<std::int64_t> launches_ = 0;

    std::mutex mutex_;
    std::unordered_map<void*, std::size_t> sizes_;  // in use
    Spare spare_;                                   // by size and address: when it came
    std::size_t spare_bytes_ = 0, most_spare_bytes_ = 0;
    std::uint64_t spare_count_ = 0;  // that ever came
    std::vector<Lane> spare_lanes_;
};

}  // namespace lrengine::cuda
