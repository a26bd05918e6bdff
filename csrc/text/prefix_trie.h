// The strings of a list that a text begins with: a trie in breadth-first order, whose nodes' children lie side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace lrengine::text {

class PrefixTrie {
public:
    struct Entry {
        std::string_view key;
        std::int32_t value;  // >= 0
    };

    PrefixTrie() = default;
    // Of equal keys the last one's value counts; empty keys are left out.
    explicit PrefixTrie(std::vector<Entry> entries);

    // Calls visit(length, value) for every key that `text` begins with, shortest first.
    template <typename Visit>
    void prefixes(std::string_view text, Visit&& visit) const {
        std::uint32_t node = 0;
        for (std::size_t i = 0; i < text.size(); ++i) {
            node = child(node, text[i]);
            if (node == 0) return;
            if (values_[node] >= 0) visit(i + 1, values_[node]);
        }
    }

private:
    // Node 0 is the root, and nobody's child.
    std::uint32_t child(std::uint32_t node, char byte) const {
        if (node == 0) return roots_.empty() ? 0 : roots_[static_cast<unsigned char>(byte)];
        const std::uint32_t first = first_child_[node], count = first_child_[node + 1] - first;
        const char* labels = labels_.data() + first;
        if (count == 0) return 0;
        const void* found = std::memchr(labels, byte, count);
        return found == nullptr ? 0 : first + static_cast<std::uint32_t>(static_cast<const char*>(found) - labels);
    }

    std::vector<std::uint32_t> first_child_;  // of node i: first_child_[i] .. first_child_[i + 1]
    std::vector<char> labels_;
    std::vector<std::int32_t> values_;  // -1: no key ends here
    std::vector<std::uint32_t> roots_;  // the root's children by byte
};

}  // namespace lrengine::text
