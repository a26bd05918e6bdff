// The k best of x W^T + bias and its log-sum-exp, against float64; where a backend has no project_top_k(), linear() and
// top_k() must give the same.
#include <algorithm>
#include <numeric>

#include "op_testing.h"

namespace {

using namespace op_testing;

struct Projection {
    TestMatrix x;
    TestWeight weight;
    TestVector bias;
    bool has_bias = true;
    TestMatrix values;
    TestIds ids;
    TestVector sums;
    std::int64_t k;

    Projection(DType dtype, std::int64_t rows, std::int64_t vocabulary, std::int64_t cols, std::int64_t wanted,
               Random& random)
        : x(rows, whole_columns(dtype, cols), random),
          weight(dtype, vocabulary, x.cols(), random),
          bias(random.floats(vocabulary)),
          values(rows, wanted, 2, DType::kFloat32),
          ids(TestIds::filled(rows * wanted + 1, -7)),
          sums(TestVector::filled(rows, kNan)),
          k(wanted) {}

    ProjectTopKArgs args() const {
        return {x.view(), weight.view(), has_bias ? bias.view() : Vector{}, k, values.view(), ids.data(), sums.data()};
    }

    std::vector<double> logits(std::int64_t m) const {
        const std::vector<double> inputs = inputs_of_product(x, weight, m);
        std::vector<double> row;
        for (std::int64_t n = 0; n < bias.size(); ++n) {
            row.push_back(has_bias ? bias[n] : 0.0);
            for (std::int64_t c = 0; c < x.cols(); ++c) {
                row.back() += inputs[static_cast<std::size_t>(c)] * weight.at(n, c);
            }
        }
        return row;
    }
};

void project(const ProjectTopKArgs& args) {
    if (backend().projects_top_k()) return backend().project_top_k(args);
    const TestMatrix logits(args.x.rows, args.weight.rows, 3, DType::kFloat32);
    backend().linear({args.x, args.weight, args.bias, {}, logits.view()});
    backend().top_k({logits.view(), args.k, args.values, args.ids, args.log_sum_exp});
}

double log_sum_exp(const std::vector<double>& row) {
    const double largest = *std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const double logit : row) sum += std::exp(logit - largest);
    return largest + std::log(sum);
}

// Logits of random numbers may be nearer to each other than float32 tells: each found value is the logit of its id and
// as large as the one that belongs there, ids are distinct, and equal values have rising ids.
void check_row(const Projection& projection, std::int64_t m) {
    const double tolerance = arithmetic(1e-5);
    const std::vector<double> logits = projection.logits(m);
    std::vector<double> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    std::vector<std::int32_t> seen;
    for (std::int64_t i = 0; i < projection.k; ++i) {
        const std::int32_t id = projection.ids[m * projection.k + i];
        const float value = projection.values.at(m, i);
        REQUIRE(id >= 0 && id < projection.bias.size());
        REQUIRE(is_close(value, logits[static_cast<std::size_t>(id)], tolerance));
        REQUIRE(is_close(value, sorted[static_cast<std::size_t>(i)], tolerance));
        if (i > 0) {
            const float before = projection.values.at(m, i - 1);
            REQUIRE(before > value || (before == value && projection.ids[m * projection.k + i - 1] < id));
        }
        seen.push_back(id);
    }
    std::sort(seen.begin(), seen.end());
    CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
    CHECK(is_close(projection.sums[m], log_sum_exp(logits), tolerance));
}

void check_projection(const Projection& projection) {
    project(projection.args());
    CHECK(projection.values.is_written_exactly());
    CHECK_EQUAL(projection.ids[projection.x.rows() * projection.k], -7);
    for (std::int64_t m = 0; m < projection.x.rows(); ++m) check_row(projection, m);
}

}  // namespace

OP_TEST(project_top_k_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 18; ++rows) {
        check_projection(Projection(DType::kBFloat16, rows, 701, 32, 1 + rows % 4, random));
    }
}

OP_TEST(project_top_k_at_odd_sizes_and_of_every_weight_type) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t cols : {16, 48, 33, 528}) {
            for (const std::int64_t k : {1, 5, 32}) check_projection(Projection(dtype, 3, 141, cols, k, random));
        }
        check_projection(Projection(dtype, 2, 1, 16, 1, random));
        Projection plain(dtype, 5, 77, 64, 2, random);
        plain.has_bias = false;
        check_projection(plain);
    }
}

OP_TEST(project_top_k_of_more_candidates_than_lanes) {
    Random random(3);
    for (const std::int64_t rows : {2, 20}) {
        for (const std::int64_t k : {33, 100, 301}) {
            check_projection(Projection(DType::kFloat16, rows, 301, 32, k, random));
        }
    }
}

OP_TEST(project_top_k_of_a_large_vocabulary) {
    Random random(4);
    check_projection(Projection(DType::kBFloat16, 4, 20011, 16, 8, random));
}

// Rows of small whole numbers have many equal logits.
OP_TEST(project_top_k_prefers_the_smaller_id_of_equals) {
    Random random(5);
    for (const std::int64_t rows : {3, 17}) {
        Projection projection(DType::kFloat32, rows, 4003, 8, 12, random);
        projection.has_bias = false;
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t c = 0; c < 8; ++c) projection.x.set(m, c, 0.0f);
        }
        projection.x.set(1, 3, -0.0f);
        project(projection.args());
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t i = 0; i < 12; ++i) {
                CHECK_EQUAL(projection.ids[m * 12 + i], i);
                CHECK_EQUAL(projection.values.at(m, i), 0.0f);
            }
        }
    }
}

OP_TEST(project_top_k_takes_nan_and_minus_infinity_as_impossible) {
    Random random(6);
    for (const std::int64_t rows : {2, 17}) {
        Projection projection(DType::kFloat32, rows, 650, 8, 3, random);
        for (std::int64_t n = 0; n < 650; ++n) {
            if (n != 7 && n != 600) projection.bias.set(n, -kInf);
        }
        for (std::int64_t c = 0; c < 8; ++c) projection.x.set(1, c, kNan);
        project(projection.args());
        const std::int32_t best = projection.ids[0], second = projection.ids[1];
        CHECK(std::min(best, second) == 7 && std::max(best, second) == 600);
        CHECK_EQUAL(projection.values.at(0, 2), -kInf);
        CHECK_EQUAL(projection.ids[2], 0);
        CHECK(std::isfinite(projection.sums[0]));
        for (std::int64_t i = 0; i < 3; ++i) {
            CHECK_EQUAL(projection.values.at(1, i), -kInf);
            CHECK_EQUAL(projection.ids[3 + i], i);
        }
        CHECK(std::isnan(projection.sums[1]));
    }
}

OP_TEST(project_top_k_takes_no_rows_and_needs_no_sums) {
    Random random(7);
    const Projection nothing(DType::kFloat32, 0, 20, 8, 2, random);
    project(nothing.args());
    Projection projection(DType::kFloat32, 2, 90, 16, 2, random);
    ProjectTopKArgs args = projection.args();
    args.log_sum_exp = nullptr;
    project(args);
    CHECK(std::isnan(projection.sums[0]));
    project(projection.args());
    for (std::int64_t m = 0; m < 2; ++m) check_row(projection, m);
}

OP_TEST(project_top_k_refuses_more_than_there_are) {
    Random random(8);
    const Projection projection(DType::kFloat32, 1, 10, 8, 11, random);
    CHECK_ERROR(project(projection.args()), ErrorCode::kInternal, "k is not");
}
