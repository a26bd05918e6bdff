// Attention over packed sequences, against a float64 twin.
#include "op_attention_reference.h"
#include "ops/relative_bias.h"

namespace {

using namespace op_testing;

std::int64_t total(const std::vector<std::int64_t>& lengths) {
    std::int64_t sum = 0;
    for (const std::int64_t length : lengths) sum += length;
    return sum;
}

// A learned bias, or none (no heads).
struct TestBias {
    std::int64_t heads = 0;
    bool bidirectional = true;
};

struct Case {
    std::vector<std::int64_t> queries, keys;
    Heads heads;
    bool causal = false;
    TestBias bias = {};
    std::int64_t gap = 3;
    DType key_type = activation_type();
};

struct Problem {
    Case setup;
    TestPacking queries, keys;
    TestMatrix q, k, v, out;
    TestVector table;

    Problem(const Case& c, Random& random)
        : setup(c),
          queries(c.queries),
          keys(c.keys),
          q(total(c.queries), c.heads.heads * c.heads.d, random, c.gap),
          k(total(c.keys), c.heads.kv_heads * c.heads.d, random, c.gap == 3 ? 1 : c.gap, c.key_type),
          v(total(c.keys), c.heads.kv_heads * c.heads.d, random, c.gap == 3 ? 4 : c.gap),
          out(total(c.queries), c.heads.heads * c.heads.d, c.gap),
          table(random.floats(32 * c.bias.heads, -2.0f, 2.0f)) {
        scale_queries(3.0f);
    }

    void scale_queries(float factor) const {
        for (std::int64_t r = 0; r < q.rows(); ++r) {
            for (std::int64_t i = 0; i < q.cols(); ++i) q.set(r, i, q.at(r, i) * factor);
        }
    }

    RelativeBias bias() const {
        if (setup.bias.heads == 0) return {};
        return {table.data(), 32, 128, setup.bias.bidirectional};
    }

    AttentionArgs args() const {
        const Heads h = setup.heads;
        return {q.view(), k.view(),   v.view(), out.view(), queries.view(), keys.view(),
                h.heads,  h.kv_heads, h.d,      0.7f,       setup.causal,   bias()};
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
                if (setup.bias.heads == 0) return 0.0;
                return static_cast<double>(table[relative_bucket(bias(), j - i - past) * setup.heads.heads + head]);
            });
    }
};

void check_case(const Case& c, Random& random) {
    const Problem problem(c, random);
    backend().attention(problem.args());
    check_close(problem.out, 3e-6, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
}

}  // namespace

OP_TEST(attention_over_packed_sequences) {
    Random random(1);
    for (const Heads heads :
         {Heads{1, 1, 1}, Heads{2, 2, 5}, Heads{3, 1, 16}, Heads{4, 2, 20}, Heads{2, 2, 64}, Heads{1, 1, 100}}) {
        for (const bool causal : {false, true}) {
            const std::vector<std::int64_t> lengths{1, 17, 4, 50, 3};
            check_case({lengths, lengths, heads, causal}, random);
        }
    }
}

// Rows and heads that can be read in words of 16 bytes, and widths of a head that GPU kernels are compiled for.
OP_TEST(attention_over_aligned_rows) {
    Random random(9);
    const std::vector<std::int64_t> lengths{40, 3};
    for (const Heads heads : {Heads{2, 1, 64}, Heads{3, 3, 128}, Heads{1, 1, 256}}) {
        check_case({lengths, lengths, heads, heads.d == 128, {}, 8}, random);
    }
}

// So many that a GPU takes larger tiles of queries.
OP_TEST(attention_over_many_sequences) {
    Random random(11);
    std::vector<std::int64_t> lengths(70, 2);
    lengths[3] = 37;
    for (const std::int64_t d : {64, 128}) check_case({lengths, lengths, {4, 2, d}, d == 64, {}, 8}, random);
}

OP_TEST(attention_to_keys_of_another_type) {
    Random random(12);
    for (const DType type : activation_types()) {
        for (const std::int64_t gap : {3, 8}) check_case({{9, 2}, {9, 2}, {2, 1, 16}, true, {}, gap, type}, random);
    }
}

OP_TEST(attention_to_another_number_of_keys) {
    Random random(2);
    for (const Heads heads : {Heads{2, 2, 8}, Heads{2, 1, 33}}) {
        check_case({{3, 1, 9}, {20, 1, 5}, heads}, random);
        // Causal queries are the last ones of their sequence; with fewer keys than queries, the first see nothing.
        check_case({{3, 1, 9, 7}, {20, 6, 9, 4}, heads, true}, random);
    }
}

OP_TEST(attention_without_keys_gives_zeros) {
    Random random(3);
    const Problem problem({{2, 3, 0, 1}, {4, 0, 2, 1}, {2, 1, 6}}, random);
    backend().attention(problem.args());
    check_close(problem.out, 3e-6, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
    for (std::int64_t i = 0; i < 12; ++i) CHECK_EQUAL(problem.out.at(3, i), 0.0f);
}

OP_TEST(attention_adds_relative_bias_by_distance) {
    Random random(4);
    for (const bool bidirectional : {true, false}) {
        const std::vector<std::int64_t> lengths{5, 160, 1};
        check_case({lengths, lengths, {3, 3, 9}, !bidirectional, {3, bidirectional}}, random);
    }
}

OP_TEST(attention_survives_scores_that_would_overflow_exp) {
    Random random(5);
    const Problem problem({{4}, {30}, {1, 1, 16}}, random);
    problem.scale_queries(300.0f);
    backend().attention(problem.args());
    check_close(problem.out, 1e-3, [&](std::int64_t r, std::int64_t i) { return problem.expected(r, i); });
}

OP_TEST(attention_refuses_shapes_that_do_not_fit) {
    Random random(10);
    const Problem problem({{3, 2}, {3, 2}, {4, 2, 8}}, random);
    AttentionArgs args = problem.args();
    args.kv_heads = 3;
    CHECK_ERROR(backend().attention(args), ErrorCode::kInternal, "share key heads");
    args = problem.args();
    args.k.cols = 8;
    CHECK_ERROR(backend().attention(args), ErrorCode::kInternal, "k is not");
    args = problem.args();
    args.keys.count = 1;
    CHECK_ERROR(backend().attention(args), ErrorCode::kInternal, "other sequences");
}

CPU_TEST(attention_gives_the_same_bits_alone_and_in_a_batch, "a GPU takes other tiles for few queries than for many") {
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
                for (std::int64_t r = 0; r < out.rows(); ++r) CHECK(same_bits(out, r, batch.out, queries.host[b] + r));
            }
        }
    }
}

// Numbers from _relative_position_bucket() of transformers 5.23 for 32 buckets and a distance of 128 at most.
CPU_TEST(relative_buckets_are_those_of_transformers, "the host computes buckets for every device") {
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
