// Recorded steps, kept for later requests of the same shape.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <list>
#include <vector>

namespace lrengine::cuda {

// The last kMost graphs that were used, by a signature of everything that their calls depend on. A graph that names
// memory which has gone is harmless: its signature holds the addresses, and who has the same ones may run it.
class GraphCache {
public:
    using Signature = std::vector<std::uint64_t>;
    struct Recording {
        cudaGraphExec_t graph = nullptr;
        std::int64_t launches = 0;  // in the graph
    };

    GraphCache() = default;
    GraphCache(const GraphCache&) = delete;
    GraphCache& operator=(const GraphCache&) = delete;
    ~GraphCache() { clear(); }

    // Null: not there. Valid until the next add() or clear().
    const Recording* find(const Signature& signature);
    // Takes the graph over, also when it throws. What was not used for longest goes; the driver keeps a graph that runs
    // until it is done.
    const Recording& add(Signature signature, Recording recording);
    void clear() noexcept;

private:
    static constexpr std::size_t kMost = 16;

    struct Entry {
        Signature signature;
        Recording recording;
    };
    std::list<Entry> entries_;  // the last one used first
};

}  // namespace lrengine::cuda
