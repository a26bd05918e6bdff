// Top-k, log-sum-exp and log-probabilities, against a full sort and a float64 sum.
#include <algorithm>
#include <numeric>

#include "op_testing.h"

namespace {

using namespace op_testing;

double clean(float logit) { return std::isnan(logit) ? -kInf : logit; }

std::vector<std::int32_t> sorted_ids(const TestMatrix& logits, std::int64_t row) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(logits.cols()));
    std::iota(ids.begin(), ids.end(), 0);
    std::stable_sort(ids.begin(), ids.end(), [&](std::int32_t a, std::int32_t b) {
        return clean(logits.at(row, a)) > clean(logits.at(row, b));
    });
    return ids;
}

double reference_log_sum_exp(const TestMatrix& logits, std::int64_t row) {
    double largest = -kInf, sum = 0;
    for (std::int64_t i = 0; i < logits.cols(); ++i) {
        if (std::isnan(logits.at(row, i))) return kNan;
        largest = std::max(largest, static_cast<double>(logits.at(row, i)));
    }
    if (std::isinf(largest)) return largest;
    for (std::int64_t i = 0; i < logits.cols(); ++i) sum += std::exp(logits.at(row, i) - largest);
    return largest + std::log(sum);
}

void check_top_k(const TestMatrix& logits, std::int64_t k, int threads) {
    const std::int64_t rows = logits.rows();
    const TestMatrix values(rows, k, 2, DType::kFloat32);
    const TestIds ids = TestIds::filled(rows * k + 1, -7);
    const TestVector sums = TestVector::filled(rows, kNan);
    backend(threads).top_k({logits.view(), k, values.view(), ids.data(), sums.data()});
    CHECK_EQUAL(ids[rows * k], -7);
    for (std::int64_t m = 0; m < rows; ++m) {
        const std::vector<std::int32_t> expected = sorted_ids(logits, m);
        for (std::int64_t i = 0; i < k; ++i) {
            REQUIRE(ids[m * k + i] == expected[static_cast<std::size_t>(i)]);
            REQUIRE(values.at(m, i) == clean(logits.at(m, expected[static_cast<std::size_t>(i)])));
        }
        const double sum = reference_log_sum_exp(logits, m);
        const float found = sums[m];
        if (std::isnan(sum)) {
            CHECK(std::isnan(found));
        } else {
            CHECK(std::isinf(sum) ? found == sum : is_close(found, sum, arithmetic(1e-6)));
        }
    }
}

}  // namespace

OP_TEST(top_k_at_odd_sizes) {
    Random random(1);
    for (const std::int64_t size : {1, 2, 15, 16, 17, 100, 4095, 4096, 4097, 20011}) {
        for (const std::int64_t rows : {1, 3}) {
            const TestMatrix logits(rows, size, random, 1);
            for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, std::int64_t{10}, size / 3, size}) {
                if (k >= 1 && k <= size) check_top_k(logits, k, 2);
            }
        }
    }
}

OP_TEST(top_k_of_hundreds_over_a_large_vocabulary_with_any_threads) {
    Random random(2);
    const TestMatrix logits(2, 250112, random);
    for (const int threads : thread_counts()) check_top_k(logits, 300, threads);
}

OP_TEST(top_k_prefers_the_smaller_id_of_equals) {
    Random random(3);
    const TestMatrix logits(3, 30000, random);
    for (std::int64_t m = 0; m < 3; ++m) {
        for (std::int64_t i = 0; i < 30000; ++i) logits.set(m, i, static_cast<float>(random.integer(0, 4 - m * 2)));
    }
    for (const int threads : thread_counts()) {
        for (const std::int64_t k : {1, 5, 200}) check_top_k(logits, k, threads);
    }
}

OP_TEST(log_sum_exp_of_a_row_with_one_nan_is_nan) {
    Random random(8);
    for (const std::int64_t size : {1, 7, 16, 33, 4100, 9001}) {
        for (const std::int64_t at : {std::int64_t{0}, size / 2, size - 1}) {
            const TestMatrix logits(3, size, random);
            logits.set(1, at, kNan);
            for (std::int64_t i = 0; i < size; ++i) logits.set(2, i, i == at ? kNan : -kInf);
            check_top_k(logits, 1, 2);
        }
    }
}

OP_TEST(top_k_takes_nan_and_minus_infinity_as_impossible) {
    Random random(4);
    const TestMatrix logits(5, 9001, random);
    for (std::int64_t i = 0; i < 9001; ++i) {
        logits.set(0, i, -kInf);
        logits.set(1, i, i % 2 == 0 ? kNan : -kInf);
        if (i % 3 != 0) logits.set(2, i, kNan);
        if (i > 3) logits.set(3, i, -kInf);
    }
    logits.set(4, 17, kInf);
    check_top_k(logits, 1, 2);
    check_top_k(logits, 6, 5);
}

CPU_TEST(log_sum_exp_has_the_same_bits_with_any_threads_and_batch, "a GPU has no threads to choose") {
    Random random(5);
    const TestMatrix logits(4, 33333, random), values(4, 1), alone(1, 1);
    const TestIds ids = TestIds::filled(4, 0);
    const TestVector sums = TestVector::filled(4, kNan), sum = TestVector::filled(1, kNan);
    backend(5).top_k({logits.view(), 1, values.view(), ids.data(), sums.data()});
    for (std::int64_t m = 0; m < 4; ++m) {
        backend(m == 0 ? 1 : 2).top_k({logits.view().slice(m, 1), 1, alone.view(), ids.data(), sum.data()});
        CHECK(same_bits(sum[0], sums[m]));
    }
}

OP_TEST(token_log_prob_is_logit_minus_log_sum_exp) {
    Random random(6);
    for (const std::int64_t size : {1, 50, 12345}) {
        const TestMatrix logits(6, size, random);
        logits.set(2, 0, -kInf);
        logits.set(3, size - 1, kNan);
        const auto last = static_cast<std::int32_t>(size - 1);
        const TestIds ids{0, last / 2, 0, last, last, 0};
        const TestVector found = TestVector::filled(6, kNan);
        backend().token_log_prob({logits.view().slice(0, 6), ids.data(), found.data()});
        for (std::int64_t m = 0; m < 6; ++m) {
            const double expected = clean(logits.at(m, ids[m])) - reference_log_sum_exp(logits, m);
            const double got = found[m];
            if (std::isfinite(expected)) CHECK(is_close(got, expected, arithmetic(1e-6)));
            if (expected == -kInf) CHECK_EQUAL(got, expected);
            if (std::isnan(expected)) CHECK(std::isnan(got));
        }
    }
}

OP_TEST(top_k_refuses_more_than_there_are) {
    Random random(7);
    const TestMatrix logits(1, 10, random), values(1, 11, 3, DType::kFloat32);
    const TestIds ids = TestIds::filled(11, 0);
    CHECK_ERROR(backend().top_k({logits.view(), 11, values.view(), ids.data(), nullptr}), ErrorCode::kInternal,
                "k is not");
}

CPU_TEST(token_log_prob_refuses_an_id_outside_the_row, "a GPU's ids are on the device: callers check them") {
    Random random(7);
    const TestMatrix logits(1, 10, random);
    const TestIds ids{10};
    const TestVector found{0.0f};
    CHECK_ERROR(backend().token_log_prob({logits.view(), ids.data(), found.data()}), ErrorCode::kInternal,
                "id outside");
}
