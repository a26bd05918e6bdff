// A call of cached_attention() on random numbers, and its float64 twin.
#pragma once

#include "op_attention_reference.h"

namespace op_testing {

struct CachedCase {
    Heads heads;
    std::int64_t capacity = 40, gap = 3;
    // Longest first; 0 and 1 are among them.
    std::vector<std::int32_t> lengths{40, 17, 1, 0, 1};
};

inline constexpr std::int64_t kSlots = 6;

struct CachedProblem {
    CachedCase setup;
    TestMatrix q, k, v, out;
    TestIds begin, length, table;

    CachedProblem(const CachedCase& c, Random& random)
        : setup(c),
          q(rows(), c.heads.heads * c.heads.d, random, c.gap),
          k(kSlots * c.capacity, c.heads.kv_heads * c.heads.d, random, c.gap),
          v(kSlots * c.capacity, c.heads.kv_heads * c.heads.d, random, c.gap),
          out(rows(), c.heads.heads * c.heads.d, c.gap),
          begin(begins(random)),
          length(c.lengths),
          table(slots(random)) {}

    std::int64_t rows() const { return static_cast<std::int64_t>(setup.lengths.size()); }

    // The last one ends with the cache.
    std::vector<std::int32_t> begins(Random& random) const {
        std::vector<std::int32_t> all;
        for (const std::int32_t own : setup.lengths) {
            const std::int64_t last = kSlots * setup.capacity - own;
            const bool at_end = all.size() + 1 == setup.lengths.size();
            all.push_back(static_cast<std::int32_t>(at_end ? last : random.integer(0, last)));
        }
        return all;
    }
    std::vector<std::int32_t> slots(Random& random) const {
        std::vector<std::int32_t> all;
        for (std::int64_t i = 0; i < rows() * setup.capacity; ++i) {
            all.push_back(static_cast<std::int32_t>(random.integer(0, kSlots - 1)));
        }
        return all;
    }

    CachedAttentionArgs args(bool through_table) const {
        const Heads h = setup.heads;
        return {q.view(),
                out.view(),
                k.view(),
                v.view(),
                begin.data(),
                length.data(),
                through_table ? table.data() : nullptr,
                setup.capacity,
                h.heads,
                h.kv_heads,
                h.d,
                0.5f};
    }

    double expected(bool through_table, std::int64_t m, std::int64_t column) const {
        const auto key = [&](std::int64_t t) -> std::int64_t {
            return through_table ? table[m * setup.capacity + t] * setup.capacity + t : begin[m] + t;
        };
        return Reference{q, k, v, setup.heads, 0.5}.at(m, column, length[m], key,
                                                       [](std::int64_t, std::int64_t) { return 0.0; });
    }
};

}  // namespace op_testing
