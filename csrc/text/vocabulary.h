// Pieces by id and ids by piece: one block of text, one array of places, one open hash table. No allocation per piece.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lrengine::text {

class Vocabulary {
public:
    // Ids lie below this: an id is an index into tables here and in the embedding matrix.
    static constexpr std::int64_t kMostIds = std::int64_t{1} << 22;

    void reserve(std::size_t pieces, std::size_t bytes);
    // `id` must be in [0, kMostIds) and not have been given. Of equal pieces the last one's id is found.
    void add(std::string_view piece, std::int32_t id);
    bool has(std::int32_t id) const { return id >= 0 && id < end() && places_[static_cast<std::size_t>(id)].given; }

    // Builds the hash table: after the last add(), before the first find().
    void index();
    std::optional<std::int32_t> find(std::string_view piece) const;
    // Empty for an id that was not given.
    std::string_view piece(std::int32_t id) const;
    // How many ids were given, and one more than the largest.
    std::int64_t size() const { return static_cast<std::int64_t>(order_.size()); }
    std::int64_t end() const { return static_cast<std::int64_t>(places_.size()); }

private:
    struct Place {
        std::uint32_t begin = 0;
        std::uint32_t length : 31 = 0;
        std::uint32_t given : 1 = 0;
    };

    std::string bytes_;
    std::vector<Place> places_;
    std::vector<std::int32_t> order_;  // ids as they were added
    std::vector<std::int32_t> slots_;  // id, -1 for empty
};

}  // namespace lrengine::text
