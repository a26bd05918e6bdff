// Chains that a device may run as one: the norm of few rows, and the products that read it.
#include <array>

#include "op_testing.h"

namespace {

using namespace op_testing;

struct Chain {
    NormKind kind;
    TestMatrix x;
    TestVector weight, bias;
    TestMatrix normed;
    TestWeight first, second;
    TestMatrix out, other;

    Chain(NormKind k, DType dtype, std::int64_t rows, std::int64_t cols, Random& random)
        : kind(k),
          x(rows, cols, random, 3, DType::kFloat32),
          weight(random.floats(cols)),
          bias(random.floats(cols)),
          normed(rows, cols),
          first(dtype, 37, cols, random),
          second(dtype, 130, cols, random),
          out(rows, 37, 1),
          other(rows, 130, 2, DType::kFloat32) {}

    void run() {
        const NormArgs norm{x.view(), weight.view(), kind == NormKind::kLayerNorm ? bias.view() : Vector{},
                            kind,     1e-5f,         normed.view()};
        const std::array products{LinearArgs{normed.view(), first.view(), {}, {}, out.view(), Activation::kRelu},
                                  LinearArgs{normed.view(), second.view(), {}, {}, other.view()}};
        backend().normed_linear({.norm = norm, .products = products});
    }

    std::vector<double> normed_row(std::int64_t m) const {
        const auto cols = static_cast<double>(x.cols());
        double mean = 0, squares = 0;
        for (std::int64_t c = 0; c < x.cols() && kind == NormKind::kLayerNorm; ++c) mean += x.at(m, c) / cols;
        for (std::int64_t c = 0; c < x.cols(); ++c) squares += (x.at(m, c) - mean) * (x.at(m, c) - mean) / cols;
        std::vector<double> row;
        for (std::int64_t c = 0; c < x.cols(); ++c) {
            const double shift = kind == NormKind::kLayerNorm ? bias[c] : 0.0;
            row.push_back((x.at(m, c) - mean) / std::sqrt(squares + 1e-5f) * weight[c] + shift);
        }
        return row;
    }
};

// The products' x may have been rounded to the type of the norm's output, or not.
void check_outputs(const TestMatrix& out, const TestWeight& weight, const std::vector<std::vector<double>>& rows,
                   double rounded, bool relu) {
    CHECK(out.is_written_exactly());
    for (std::int64_t m = 0; m < out.rows(); ++m) {
        const std::vector<double>& x = rows[static_cast<std::size_t>(m)];
        for (std::int64_t n = 0; n < out.cols(); ++n) {
            double sum = 0, size = 1;
            for (std::size_t c = 0; c < x.size(); ++c) {
                const double term = x[c] * weight.at(n, static_cast<std::int64_t>(c));
                sum += term;
                size += std::abs(term);
            }
            if (relu) sum = std::max(sum, 0.0);
            REQUIRE(std::abs(out.at(m, n) - sum) <=
                    (1e-6 + rounded) * size + rounding(out.dtype()) * std::abs(sum) + input_error(x, weight, n));
        }
    }
}

void check_chain(Chain chain) {
    chain.run();
    std::vector<std::vector<double>> rows;
    for (std::int64_t m = 0; m < chain.x.rows(); ++m) rows.push_back(chain.normed_row(m));
    check_close(chain.normed, 1e-5, [&](std::int64_t m, std::int64_t c) {
        return rows[static_cast<std::size_t>(m)][static_cast<std::size_t>(c)];
    });
    const double rounded = rounding(chain.normed.dtype());
    check_outputs(chain.out, chain.first, rows, rounded, true);
    check_outputs(chain.other, chain.second, rows, rounded, false);
}

}  // namespace

OP_TEST(normed_linear_of_every_number_of_rows) {
    Random random(1);
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
        for (const std::int64_t rows : {1, 2, 3, 8, 9, 16, 17}) {
            check_chain(Chain(kind, DType::kBFloat16, rows, 328, random));
        }
    }
}

OP_TEST(normed_linear_of_every_weight_type_and_width) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t cols : {1, 33, 80, 512, 1040}) {
            check_chain(Chain(NormKind::kLayerNorm, dtype, 2, whole_columns(dtype, cols), random));
        }
    }
}

// More columns than shared memory has room for.
OP_TEST(normed_linear_of_very_wide_rows) {
    Random random(3);
    check_chain(Chain(NormKind::kRmsNorm, DType::kBFloat16, 13, 2560, random));
}

OP_TEST(normed_linear_without_a_norm_is_linear) {
    Random random(4);
    const TestMatrix x(3, 64, random), out(3, 20, 1);
    const TestWeight weight(DType::kFloat16, 20, 64, random);
    const LinearArgs product{x.view(), weight.view(), {}, {}, out.view()};
    backend().normed_linear({.norm = std::nullopt, .products = std::span(&product, 1)});
    check_close(out, 1e-5, [&](std::int64_t m, std::int64_t n) {
        double sum = 0;
        for (std::int64_t c = 0; c < 64; ++c) sum += x.at(m, c) * weight.at(n, c);
        return sum;
    });
}

OP_TEST(normed_linear_refuses_a_norm_of_another_width) {
    Random random(5);
    Chain chain(NormKind::kLayerNorm, DType::kFloat32, 1, 32, random);
    const TestVector narrow(random.floats(16));
    const NormArgs norm{chain.x.view(), narrow.view(), {}, NormKind::kLayerNorm, 1e-5f, chain.normed.view()};
    const LinearArgs product{chain.normed.view(), chain.first.view(), {}, {}, chain.out.view()};
    CHECK_ERROR(backend().normed_linear({.norm = norm, .products = std::span(&product, 1)}), ErrorCode::kInternal,
                "norm: weight is not");
}

// Few rows and many, keys as they are or with a norm of each head's, outputs kept or left to the cache.
OP_TEST(project_heads_puts_keys_and_values_into_rows_of_a_cache) {
    Random random(6);
    const TestIds rows{7, 0, 3, 20, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    for (const std::int64_t count : {1, 3, 18}) {
        for (const bool key_norm : {false, true}) {
            for (const bool only : {false, true}) {
                const TestMatrix x(count, 40, random, 3, DType::kFloat32), normed(count, 40);
                const TestVector norm_weight(random.floats(40)), head_weight(random.floats(8));
                const TestWeight weights[] = {{DType::kBFloat16, 24, 40, random},
                                              {DType::kBFloat16, 16, 40, random},
                                              {DType::kBFloat16, 16, 40, random}};
                const TestMatrix query(count, 24), key(count, 16, 0), value(count, 16), keys(21, 16, 8),
                    values(21, 16, 8), plain_key(count, 16, 0), plain_value(count, 16);
                const auto product = [&](int i, const TestMatrix& out) {
                    return LinearArgs{normed.view(), weights[i].view(), {}, {}, out.view()};
                };
                const NormArgs norm{x.view(), norm_weight.view(), {}, NormKind::kRmsNorm, 1e-5f, normed.view()};
                const auto heads = [&](const TestMatrix& matrix) {
                    const Matrix all = matrix.view();
                    return Matrix{all.data, all.dtype, count * 2, 8, 8};
                };
                const auto head_norm = [&](const TestMatrix& matrix) {
                    return NormArgs{heads(matrix), head_weight.view(), {}, NormKind::kRmsNorm, 1e-5f, heads(matrix)};
                };
                const std::array products{product(0, query), product(1, key), product(2, value)};
                ProjectHeadsArgs args{.norm = norm,
                                      .products = products,
                                      .query_norm = {},
                                      .key_norm = {},
                                      .query_rope = {},
                                      .key_rope = {},
                                      .key_cache = keys.view(),
                                      .value_cache = values.view(),
                                      .cache_rows = rows.data(),
                                      .cache_only = only};
                if (key_norm) args.key_norm = head_norm(key);
                backend().project_heads(args);
                // The same in single steps.
                backend().norm(norm);
                const std::array plain{product(1, plain_key), product(2, plain_value)};
                backend().linear(plain);
                if (key_norm) backend().norm(head_norm(plain_key));
                const double tolerance = 1e-5 + 8 * rounding(normed.dtype());
                for (std::int64_t m = 0; m < 21; ++m) {
                    std::int64_t source = -1;
                    for (std::int64_t i = 0; i < count; ++i) source = rows[i] == m ? i : source;
                    for (std::int64_t c = 0; c < 16; ++c) {
                        if (source < 0) {
                            REQUIRE(std::isnan(keys.at(m, c)) && std::isnan(values.at(m, c)));
                        } else {
                            REQUIRE(is_close(keys.at(m, c), plain_key.at(source, c), tolerance));
                            REQUIRE(is_close(values.at(m, c), plain_value.at(source, c), tolerance));
                        }
                    }
                }
                CHECK(query.is_written_exactly());
                CHECK(only || (key.is_written_exactly() && value.is_written_exactly()));
            }
        }
    }
}
