// Attention over packed sequences and over caches, against a float64 twin.
#include <functional>

#include "core/error.h"
#include "op_testing.h"
#include "ops/relative_bias.h"

namespace {

using namespace op_testing;

struct Heads {
    std::int64_t heads, kv_heads, d;
};

// softmax(scores) v for one query and head; key(j) and value(j) give row numbers.
struct Reference {
    const TestMatrix &q, &k, &v;
    Heads heads;
    double scale;

    double at(std::int64_t row, std::int64_t column, std::int64_t keys,
              const std::function<std::int64_t(std::int64_t)>& key,
              const std::function<double(std::int64_t, std::int64_t)>& bias) const {
        const std::int64_t head = column / heads.d, kv = head / (heads.heads / heads.kv_heads) * heads.d;
        std::vector<double> scores;
        double largest = -1e300, sum = 0, out = 0;
        for (std::int64_t j = 0; j < keys; ++j) {
            double score = 0;
            for (std::int64_t i = 0; i < heads.d; ++i) {
                score += static_cast<double>(q.at(row, head * heads.d + i)) * k.at(key(j), kv + i);
            }
            scores.push_back(score * scale + bias(head, j));
            largest = std::max(largest, scores.back());
        }
        for (std::int64_t j = 0; j < keys; ++j) {
            const double weight = std::exp(scores[static_cast<std::size_t>(j)] - largest);
            sum += weight;
            out += weight * v.at(key(j), kv + column % heads.d);
        }
        return keys > 0 ? out / sum : 0.0;
    }
};

std::int64_t total(const std::vector<std::int64_t>& lengths) {
    std::int64_t sum = 0;
    for (const std::int64_t length : lengths) sum += length;
    return sum;
}

struct Case {
    std::vector<std::int64_t> queries, keys;
    Heads heads;
    bool causal = false;
    RelativeBias bias = {};
};

struct Problem {
    Case setup;
    TestPacking queries, keys;
    TestMatrix q, k, v, out;

    Problem(const Case& c, Random& random)
        : setup(c),
          queries(c.queries),
          keys(c.keys),
          q(total(c.queries), c.heads.heads * c.heads.d, random),
          k(total(c.keys), c.heads.kv_heads * c.heads.d, random, 1),
          v(total(c.keys), c.heads.kv_heads * c.heads.d, random, 4),
          out(total(c.queries), c.heads.heads * c.heads.d) {
        for (std::int64_t r = 0; r < q.rows(); ++r) {
            for (std::int64_t i = 0; i < q.cols(); ++i) q.at(r, i) *= 3.0f;
        }
    }

    AttentionArgs args() const {
        const Heads h = setup.heads;
        return {q.view(), k.view(),   v.view(), out.view(), queries.view(), keys.view(),
                h.heads,  h.kv_heads, h.d,      0.7f,       setup.causal,   setup.bias};
    }

    double expected(std::int64_t row, std::int64_t column) const {
        std::int64_t b = 0;
        const Packing rows = queries.view(), columns = keys.view();
        while (rows.host[b + 1] <= row) ++b;
        const std::int64_t i = row - rows.host[b], first = columns.host[b];
        const std::int64_t past = setup.causal ? columns.length(b) - rows.length(b) : 0;
        const std::int64_t seen =
            setup.causal ? std::clamp<std::int64_t>(i + past + 1, 0, columns.length(b)) : columns.length(b);
        return Reference{q, k, v, setup.heads, 0.7}.at(
            row, column, seen, [&](std::int64_t j) { return first + j; },
            [&](std::int64_t head, std::int64_t j) {
                if (setup.bias.table == nullptr) return 0.0;
                return static_cast<double>(
                    setup.bias.table[relative_bucket(setup.bias, j - i - past) * setup.heads.heads + head]);
            });
    }
};

void check_case(const Case& c, Random& random) {
    const Problem problem(c, random);
    backend().attention(problem.args());
    check_close(problem.out, 3e-6, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
}

}  // namespace

TEST(attention_over_packed_sequences) {
    Random random(1);
    for (const Heads heads :
         {Heads{1, 1, 1}, Heads{2, 2, 5}, Heads{3, 1, 16}, Heads{4, 2, 20}, Heads{2, 2, 64}, Heads{1, 1, 100}}) {
        for (const bool causal : {false, true}) {
            const std::vector<std::int64_t> lengths{1, 17, 4, 50, 3};
            check_case({lengths, lengths, heads, causal}, random);
        }
    }
}

TEST(attention_to_another_number_of_keys) {
    Random random(2);
    for (const Heads heads : {Heads{2, 2, 8}, Heads{2, 1, 33}}) {
        check_case({{3, 1, 9}, {20, 1, 5}, heads}, random);
        // Causal queries are the last ones of their sequence; with fewer keys than queries, the first see nothing.
        check_case({{3, 1, 9, 7}, {20, 6, 9, 4}, heads, true}, random);
    }
}

TEST(attention_without_keys_gives_zeros) {
    Random random(3);
    const Problem problem({{2, 3, 0, 1}, {4, 0, 2, 1}, {2, 1, 6}}, random);
    backend().attention(problem.args());
    check_close(problem.out, 3e-6, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
    for (std::int64_t i = 0; i < 12; ++i) CHECK_EQUAL(problem.out.at(3, i), 0.0f);
}

TEST(attention_adds_relative_bias_by_distance) {
    Random random(4);
    for (const bool bidirectional : {true, false}) {
        const std::int64_t heads = 3;
        const std::vector<float> table = random.floats(32 * heads, -2.0f, 2.0f);
        const RelativeBias bias{table.data(), 32, 128, bidirectional};
        check_case({{5, 160, 1}, {5, 160, 1}, {heads, heads, 9}, !bidirectional, bias}, random);
    }
}

TEST(attention_survives_scores_that_would_overflow_exp) {
    Random random(5);
    Problem problem({{4}, {30}, {1, 1, 16}}, random);
    for (std::int64_t r = 0; r < 4; ++r) {
        for (std::int64_t i = 0; i < 16; ++i) problem.q.at(r, i) *= 300.0f;
    }
    backend().attention(problem.args());
    check_close(problem.out, 1e-3, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
}

TEST(attention_gives_the_same_bits_alone_and_in_a_batch) {
    Random random(6);
    for (const bool causal : {false, true}) {
        const Problem batch({{5, 70, 2}, {9, 70, 33}, {4, 2, 24}, causal}, random);
        backend(2).attention(batch.args());
        for (const int threads : {1, 5}) {
            for (std::int64_t b = 0; b < 3; ++b) {
                const Packing queries = batch.queries.view(), keys = batch.keys.view();
                const TestPacking own({queries.length(b)}), own_keys({keys.length(b)});
                const TestMatrix out(queries.length(b), 96);
                AttentionArgs args = batch.args();
                args.q = args.q.slice(queries.host[b], queries.length(b));
                args.k = args.k.slice(keys.host[b], keys.length(b));
                args.v = args.v.slice(keys.host[b], keys.length(b));
                args.out = out.view();
                args.queries = own.view();
                args.keys = own_keys.view();
                backend(threads).attention(args);
                for (std::int64_t r = 0; r < out.rows(); ++r) {
                    CHECK(same_bits(&out.at(r, 0), &batch.out.at(queries.host[b] + r, 0), 96));
                }
            }
        }
    }
}

TEST(cached_attention_through_begins_and_through_a_table) {
    Random random(7);
    for (const Heads heads : {Heads{1, 1, 3}, Heads{4, 2, 20}, Heads{8, 1, 16}, Heads{2, 2, 64}}) {
        const std::int64_t rows = 5, capacity = 40, slots = 6;
        const TestMatrix q(rows, heads.heads * heads.d, random), out(rows, heads.heads * heads.d);
        const TestMatrix k(slots * capacity, heads.kv_heads * heads.d, random),
            v(slots * capacity, heads.kv_heads * heads.d, random);
        const std::int32_t begin[] = {0, 200, 13, 90, 239}, length[] = {40, 17, 1, 0, 1};
        std::vector<std::int32_t> table;
        for (std::int64_t i = 0; i < rows * capacity; ++i)
            table.push_back(static_cast<std::int32_t>(random.integer(0, slots - 1)));
        CachedAttentionArgs args{q.view(), out.view(), k.view(),    v.view(),       begin,   length,
                                 nullptr,  capacity,   heads.heads, heads.kv_heads, heads.d, 0.5f};
        const Reference reference{q, k, v, heads, 0.5};
        for (const bool through_table : {false, true}) {
            args.table = through_table ? table.data() : nullptr;
            backend().cached_attention(args);
            check_close(out, 3e-6, [&](std::int64_t m, std::int64_t c) {
                const auto key = [&](std::int64_t t) -> std::int64_t {
                    return through_table ? table[static_cast<std::size_t>(m * capacity + t)] * capacity + t
                                         : begin[m] + t;
                };
                return reference.at(m, c, length[m], key, [](std::int64_t, std::int64_t) { return 0.0; });
            });
            CHECK_EQUAL(out.at(3, 0), 0.0f);
            TestMatrix alone(1, heads.heads * heads.d);
            CachedAttentionArgs one = args;
            one.q = args.q.slice(1, 1);
            one.out = alone.view();
            one.begin = begin + 1;
            one.length = length + 1;
            one.table = through_table ? table.data() + capacity : nullptr;
            backend(5).cached_attention(one);
            CHECK(same_bits(&alone.at(0, 0), &out.at(1, 0), alone.cols()));
        }
    }
}

TEST(cached_attention_refuses_keys_outside_the_cache) {
    Random random(8);
    const TestMatrix q(1, 4, random), out(1, 4), k(8, 4, random), v(8, 4, random);
    const std::int32_t begin = 5, length = 4;
    const CachedAttentionArgs args{q.view(), out.view(), k.view(), v.view(), &begin, &length,
                                   nullptr,  8,          1,        1,        4,      1.0f};
    CHECK_ERROR(backend().cached_attention(args), ErrorCode::kInternal, "outside the cache");
}

// Numbers from _relative_position_bucket() of transformers 5.23 for 32 buckets and a distance of 128 at most.
TEST(relative_buckets_are_those_of_transformers) {
    const RelativeBias both{nullptr, 32, 128, true}, causal{nullptr, 32, 128, false};
    const std::int64_t distances[] = {-1000, -129, -128, -127, -113, -112, -91, -90, -64, -63, -46, -45,
                                      -33,   -32,  -31,  -24,  -23,  -17,  -16, -15, -12, -11, -8,  -7,
                                      -1,    0,    1,    7,    8,    11,   12,  15,  16,  22,  23,  31,
                                      32,    45,   46,   63,   64,   90,   91,  127, 128, 500};
    const std::int64_t expected_both[] = {15, 15, 15, 15, 15, 15, 15, 14, 14, 13, 13, 12, 12, 12, 11, 11,
                                          11, 10, 10, 9,  9,  8,  8,  7,  1,  0,  17, 23, 24, 24, 25, 25,
                                          26, 26, 27, 27, 28, 28, 29, 29, 30, 30, 31, 31, 31, 31};
    const std::int64_t expected_causal[] = {31, 31, 31, 31, 31, 30, 29, 29, 26, 26, 24, 23, 21, 21, 21, 19,
                                            18, 16, 16, 15, 12, 11, 8,  7,  1,  0,  0,  0,  0,  0,  0,  0,
                                            0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};
    for (std::size_t i = 0; i < std::size(distances); ++i) {
        CHECK_EQUAL(relative_bucket(both, distances[i]), expected_both[i]);
        CHECK_EQUAL(relative_bucket(causal, distances[i]), expected_causal[i]);
    }
}
