#include "text/prefix_trie.h"

#include <algorithm>

namespace lrengine::text {

PrefixTrie::PrefixTrie(std::vector<Entry> entries) {
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.key < b.key; });
    // A node is a run of entries with a common prefix; nodes are numbered as they are met, level by level.
    struct Run {
        std::uint32_t begin, end;
    };
    std::vector<Run> level = {{0, static_cast<std::uint32_t>(entries.size())}}, next;
    labels_.push_back(0);
    values_.push_back(-1);
    roots_.assign(256, 0);
    for (std::size_t depth = 0; !level.empty(); ++depth, level.swap(next)) {
        next.clear();
        for (const Run& run : level) {
            first_child_.push_back(static_cast<std::uint32_t>(labels_.size()));
            std::uint32_t i = run.begin;
            while (i < run.end && entries[i].key.size() == depth) ++i;  // the node's own key, and empty keys
            while (i < run.end) {
                const char label = entries[i].key[depth];
                std::uint32_t end = i + 1;
                while (end < run.end && entries[end].key[depth] == label) ++end;
                std::uint32_t own = i;
                while (own < end && entries[own].key.size() == depth + 1) ++own;
                if (depth == 0) roots_[static_cast<unsigned char>(label)] = static_cast<std::uint32_t>(labels_.size());
                labels_.push_back(label);
                values_.push_back(own > i ? entries[own - 1].value : -1);
                next.push_back({i, end});
                i = end;
            }
        }
    }
    first_child_.push_back(static_cast<std::uint32_t>(labels_.size()));
}

}  // namespace lrengine::text
