// Attention of a decode step over a cache, against a float64 twin.
#include "op_cached_problem.h"

namespace {

using namespace op_testing;

void check_cached(const CachedCase& c, Random& random) {
    const CachedProblem problem(c, random);
    for (const bool through_table : {false, true}) {
        backend().cached_attention(problem.args(through_table));
        check_close(problem.out, 3e-6,
                    [&](std::int64_t m, std::int64_t i) { return problem.expected(through_table, m, i); });
    }
}

}  // namespace

OP_TEST(cached_attention_through_begins_and_through_a_table) {
    Random random(7);
    for (const Heads heads : {Heads{1, 1, 3}, Heads{4, 2, 20}, Heads{8, 1, 16}, Heads{2, 2, 64}, Heads{3, 1, 5}}) {
        check_cached({heads}, random);
    }
}

OP_TEST(cached_attention_over_aligned_rows) {
    Random random(9);
    for (const Heads heads : {Heads{2, 2, 64}, Heads{4, 1, 128}, Heads{2, 1, 256}, Heads{6, 1, 8}}) {
        check_cached({heads, 40, 8}, random);
    }
}

// Keys enough for several blocks of a GPU to share.
OP_TEST(cached_attention_to_many_keys) {
    Random random(10);
    check_cached({{2, 1, 64}, 2100, 8, {2100, 700}}, random);
}

OP_TEST(cached_attention_without_a_capacity_reads_as_far_as_lengths_say) {
    Random random(11);
    const CachedProblem problem({{2, 2, 16}}, random);
    CachedAttentionArgs args = problem.args(false);
    args.capacity = 0;
    backend().cached_attention(args);
    check_close(problem.out, 3e-6, [&](std::int64_t m, std::int64_t i) { return problem.expected(false, m, i); });
}

OP_TEST(cached_attention_of_another_type_than_its_cache) {
    Random random(12);
    for (const DType type : activation_types()) {
        const std::int64_t rows = 2, keys = 9, width = 24;
        const TestMatrix q(rows, width, random), out(rows, width);
        const TestMatrix k(keys, width, random, 0, type), v(keys, width, random, 0);
        const TestIds begin{0, 4}, length{9, 5};
        const Heads heads{3, 3, 8};
        backend().cached_attention({q.view(), out.view(), k.view(), v.view(), begin.data(), length.data(), nullptr, 0,
                                    heads.heads, heads.kv_heads, heads.d, 0.5f});
        check_close(out, 3e-6, [&](std::int64_t m, std::int64_t c) {
            return Reference{q, k, v, heads, 0.5}.at(
                m, c, length[m], [&](std::int64_t t) { return begin[m] + t; },
                [](std::int64_t, std::int64_t) { return 0.0; });
        });
    }
}

CPU_TEST(cached_attention_gives_the_same_bits_alone, "a GPU shares out keys by the number of rows") {
    Random random(13);
    const CachedProblem problem({{4, 2, 20}}, random);
    for (const bool through_table : {false, true}) {
        backend(2).cached_attention(problem.args(through_table));
        const TestMatrix alone(1, 80);
        CachedAttentionArgs one = problem.args(through_table);
        one.q = one.q.slice(1, 1);
        one.out = alone.view();
        one.begin += 1;
        one.length += 1;
        if (through_table) one.table += one.capacity;
        backend(5).cached_attention(one);
        CHECK(same_bits(alone, 0, problem.out, 1));
    }
}

// The CPU refuses; a GPU finds out when it is too late for that, and must neither read there nor pretend.
OP_TEST(cached_attention_notices_keys_outside_the_cache) {
    Random random(8);
    const TestMatrix q(2, 4, random), out(2, 4), k(8, 4, random), v(8, 4, random);
    const TestIds begin{5, 0}, length{4, 4};
    const CachedAttentionArgs args{q.view(), out.view(), k.view(), v.view(), begin.data(), length.data(), nullptr,
                                   8,        1,          1,        4,        1.0f};
    if (!on_cuda()) {
        CHECK_ERROR(backend().cached_attention(args), ErrorCode::kInternal, "outside the cache");
        return;
    }
    backend().cached_attention(args);
    CHECK(std::isnan(out.at(0, 0)) && std::isnan(out.at(0, 3)));
    CHECK(!std::isnan(out.at(1, 0)));
}

OP_TEST(cached_attention_refuses_shapes_that_do_not_fit) {
    Random random(14);
    const CachedProblem problem({{4, 2, 8}}, random);
    CachedAttentionArgs args = problem.args(false);
    args.kv_heads = 3;
    CHECK_ERROR(backend().cached_attention(args), ErrorCode::kInternal, "share key heads");
    args = problem.args(false);
    args.head_dim = 4;
    CHECK_ERROR(backend().cached_attention(args), ErrorCode::kInternal, "q is not");
    args = problem.args(false);
    args.v.cols = 8;
    CHECK_ERROR(backend().cached_attention(args), ErrorCode::kInternal, "v is not");
}
