#include "cuda/graph_cache.h"

#include <algorithm>
#include <utility>

namespace lrengine::cuda {

const GraphCache::Recording* GraphCache::find(const Signature& signature) {
    const auto found = std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.signature == signature; });
    if (found == entries_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found);
    return &entries_.front().recording;
}

const GraphCache::Recording& GraphCache::add(Signature signature, Recording recording) {
    try {
        entries_.push_front({std::move(signature), recording});
    } catch (...) {
        cudaGraphExecDestroy(recording.graph);
        throw;
    }
    if (entries_.size() > kMost) {
        cudaGraphExecDestroy(entries_.back().recording.graph);
        entries_.pop_back();
    }
    return entries_.front().recording;
}

void GraphCache::clear() noexcept {
    for (const Entry& entry : entries_) cudaGraphExecDestroy(entry.recording.graph);
    entries_.clear();
}

}  // namespace lrengine::cuda
