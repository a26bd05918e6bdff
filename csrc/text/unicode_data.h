// Tables of unicode_data.cpp and normalization_data.cpp, as generate_unicode.py packs them. Read through unicode.h and
// normal_forms.h only.
#pragma once

#include <cstdint>
#include <span>

namespace lrengine::text::data {

// Sorted runs that last until the next one: first code point << 7 | \w of patterns << 6 | word character << 5 |
// category.
extern const std::span<const std::uint32_t> categories;
// The same: first code point << 4 | grapheme cluster break (Hangul LV and LVT are computed).
extern const std::span<const std::uint32_t> breaks;
// Triples: code point (its highest bit says that the pair composes again), first, second or 0. Sorted by code point.
extern const std::span<const std::uint32_t> canonical;
// Code point << 8 | length, then that many code points. Sorted.
extern const std::span<const std::uint32_t> compatibility;
// Runs: first code point << 8 | canonical combining class.
extern const std::span<const std::uint32_t> combining_classes;
// Quadruples: first, last, step, difference modulo 2^32.
extern const std::span<const std::uint32_t> lower_case;

}  // namespace lrengine::text::data
