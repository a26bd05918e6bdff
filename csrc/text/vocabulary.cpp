#include "text/vocabulary.h"

#include <bit>
#include <functional>

namespace lrengine::text {

void Vocabulary::reserve(std::size_t pieces, std::size_t bytes) {
    bytes_.reserve(bytes);
    places_.reserve(pieces);
    order_.reserve(pieces);
}

void Vocabulary::add(std::string_view piece, std::int32_t id) {
    if (id >= end()) places_.resize(static_cast<std::size_t>(id) + 1);
    Place& place = places_[static_cast<std::size_t>(id)];
    place.begin = static_cast<std::uint32_t>(bytes_.size());
    place.length = static_cast<std::uint32_t>(piece.size()) & 0x7FFFFFFF;
    place.given = 1;
    bytes_.append(piece);
    order_.push_back(id);
}

void Vocabulary::index() {
    slots_.assign(std::bit_ceil(order_.size() * 2 + 1), -1);
    for (const std::int32_t id : order_) {
        const std::string_view own = piece(id);
        std::size_t slot = std::hash<std::string_view>()(own) & (slots_.size() - 1);
        while (slots_[slot] >= 0 && piece(slots_[slot]) != own) slot = (slot + 1) & (slots_.size() - 1);
        slots_[slot] = id;
    }
}

std::optional<std::int32_t> Vocabulary::find(std::string_view piece) const {
    std::size_t slot = std::hash<std::string_view>()(piece) & (slots_.size() - 1);
    for (; slots_[slot] >= 0; slot = (slot + 1) & (slots_.size() - 1)) {
        if (this->piece(slots_[slot]) == piece) return slots_[slot];
    }
    return std::nullopt;
}

std::string_view Vocabulary::piece(std::int32_t id) const {
    if (!has(id)) return {};
    const Place& place = places_[static_cast<std::size_t>(id)];
    return std::string_view(bytes_).substr(place.begin, place.length);
}

}  // namespace lrengine::text
