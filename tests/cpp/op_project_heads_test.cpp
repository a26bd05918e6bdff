// The heads of an attention, which a device may run as two: norm and products; then norms and rotations of heads, and
// the rows of the cache.
#include "op_testing.h"

namespace {

using namespace op_testing;

struct HeadsCase {
    DType weights = DType::kBFloat16;
    std::int64_t rows = 3, cols = 48, heads = 6, kv_heads = 2, d = 16;
    bool norm = true, head_norms = false, rope = true, cache = true, only = true, bias = true;
    NormKind head_norm = NormKind::kRmsNorm;
    std::int64_t beside = 0;  // rows of a source, whose keys and values the same weights make
};

constexpr std::int64_t kCacheRows = 23;

// One of q, k and v.
struct Projection {
    TestWeight weight;
    TestVector bias, head_norm;
    TestMatrix out, cache, beside;

    Projection(const HeadsCase& c, std::int64_t heads, Random& random)
        : weight(c.weights, heads * c.d, c.cols, random),
          bias(random.floats(heads * c.d)),
          head_norm(random.floats(c.d)),
          out(c.rows, heads * c.d, c.head_norms ? 0 : 3),
          cache(kCacheRows, heads * c.d, 5),
          beside(c.beside, heads * c.d, 1) {}
};

struct ProjectedHeads {
    HeadsCase setup;
    TestMatrix x;
    TestVector norm_weight;
    TestMatrix normed;
    Projection query, key, value;
    TestMatrix source;
    TestVector inv_freq;
    TestIds positions, cache_rows;

    ProjectedHeads(const HeadsCase& c, Random& random)
        : setup(c),
          x(c.rows, c.cols, random, 3, c.norm ? DType::kFloat32 : activation_type()),
          norm_weight(random.floats(c.cols)),
          normed(c.rows, c.cols),
          query(c, c.heads, random),
          key(c, c.kv_heads, random),
          value(c, c.kv_heads, random),
          source(c.beside, c.cols, random),
          inv_freq(random.floats(c.d / 2, 0.0f, 1.0f)),
          positions(ids(c.rows, [&](std::int64_t m) { return m == 1 ? 131071 : random.integer(0, 3000); })),
          cache_rows(ids(c.rows, [&](std::int64_t m) { return (m * 7 + 3) % kCacheRows; })) {}

    template <typename Choose>
    static std::vector<std::int32_t> ids(std::int64_t count, Choose choose) {
        std::vector<std::int32_t> all;
        for (std::int64_t m = 0; m < count; ++m) all.push_back(static_cast<std::int32_t>(choose(m)));
        return all;
    }

    LinearArgs product(const Projection& p) const {
        const Matrix input = setup.norm ? normed.view() : x.view();
        return {input, p.weight.view(), setup.bias ? p.bias.view() : Vector{}, {}, p.out.view()};
    }

    LinearArgs product_beside(const Projection& p) const {
        return {source.view(), p.weight.view(), setup.bias ? p.bias.view() : Vector{}, {}, p.beside.view()};
    }

    NormArgs norm_of_heads(const Projection& p) const {
        const Matrix all = p.out.view();
        const Matrix rows{all.data, all.dtype, all.rows * (all.cols / setup.d), setup.d, setup.d};
        return {rows, p.head_norm.view(), {}, setup.head_norm, 1e-3f, rows};
    }

    RopeArgs rotation(const Projection& p) const {
        return {p.out.view(), positions.data(), inv_freq.view(), p.out.cols() / setup.d, setup.d, 1.25f};
    }

    void run() const {
        const LinearArgs products[] = {product(query), product(key), product(value)};
        ProjectHeadsArgs args{.norm = {},
                              .products = products,
                              .query_norm = {},
                              .key_norm = {},
                              .query_rope = {},
                              .key_rope = {},
                              .key_cache = {},
                              .value_cache = {},
                              .cache_rows = nullptr,
                              .cache_only = setup.only};
        if (setup.norm) {
            args.norm = NormArgs{x.view(), norm_weight.view(), {}, NormKind::kRmsNorm, 1e-5f, normed.view()};
        }
        if (setup.head_norms) args.query_norm = norm_of_heads(query);
        if (setup.head_norms) args.key_norm = norm_of_heads(key);
        if (setup.rope) args.query_rope = rotation(query);
        if (setup.rope) args.key_rope = rotation(key);
        if (setup.cache) {
            args.key_cache = key.cache.view();
            args.value_cache = value.cache.view();
            args.cache_rows = cache_rows.data();
        }
        const LinearArgs others[] = {product_beside(key), product_beside(value)};
        if (setup.beside > 0) args.beside = others;
        backend().project_heads(args);
    }
};

// A row of heads in float64, and what rounding to the activations' type on the way may have changed of each element.
struct Expected {
    std::vector<double> values, errors;
};

std::vector<double> input_row(const ProjectedHeads& test, std::int64_t m) {
    const std::int64_t cols = test.setup.cols;
    double squares = 0;
    for (std::int64_t c = 0; c < cols; ++c) squares += std::pow(test.x.at(m, c), 2) / static_cast<double>(cols);
    std::vector<double> row;
    for (std::int64_t c = 0; c < cols; ++c) {
        row.push_back(test.x.at(m, c) * (test.setup.norm ? test.norm_weight[c] / std::sqrt(squares + 1e-5f) : 1.0));
    }
    return row;
}

Expected project(const ProjectedHeads& test, const Projection& p, const std::vector<double>& x) {
    Expected row;
    const double rounded = rounding(activation_type());
    for (std::int64_t n = 0; n < p.out.cols(); ++n) {
        double sum = test.setup.bias ? p.bias[n] : 0.0, size = 1;
        for (std::size_t c = 0; c < x.size(); ++c) {
            const double term = x[c] * p.weight.at(n, static_cast<std::int64_t>(c));
            sum += term;
            size += std::abs(term);
        }
        row.values.push_back(sum);
        row.errors.push_back((1e-6 + rounded) * size + rounded * std::abs(sum) + input_error(x, p.weight, n));
    }
    return row;
}

void normalize_head(const ProjectedHeads& test, const Projection& p, double* values, double* errors) {
    const std::int64_t d = test.setup.d;
    const auto size = static_cast<double>(d);
    double mean = 0, squares = 0, worst = 0;
    for (std::int64_t j = 0; j < d && test.setup.head_norm == NormKind::kLayerNorm; ++j) mean += values[j] / size;
    for (std::int64_t j = 0; j < d; ++j) squares += std::pow(values[j] - mean, 2) / size;
    const double factor = 1 / std::sqrt(squares + 1e-3f);
    for (std::int64_t j = 0; j < d; ++j) worst = std::max(worst, errors[j]);
    for (std::int64_t j = 0; j < d; ++j) {
        const double scaled = (values[j] - mean) * factor;
        values[j] = scaled * p.head_norm[j];
        errors[j] = (2 + std::abs(scaled)) * worst * factor * std::abs(p.head_norm[j]) +
                    (2e-6 + rounding(activation_type())) * std::abs(values[j]);
    }
}

void turn_head(const ProjectedHeads& test, std::int64_t m, double* values, double* errors) {
    const std::int64_t half = test.setup.d / 2;
    for (std::int64_t j = 0; j < half; ++j) {
        const float angle = static_cast<float>(test.positions[m]) * test.inv_freq[j];
        const double cosine = 1.25 * std::cos(static_cast<double>(angle)),
                     sine = 1.25 * std::sin(static_cast<double>(angle));
        const double low = values[j], high = values[j + half];
        values[j] = low * cosine - high * sine;
        values[j + half] = high * cosine + low * sine;
        errors[j] = errors[j + half] =
            1.25 * (errors[j] + errors[j + half]) +
            (2e-6 + rounding(activation_type())) * (1 + 1.25 * (std::abs(low) + std::abs(high)));
    }
}

Expected expected_row(const ProjectedHeads& test, const Projection& p, std::int64_t m) {
    Expected row = project(test, p, input_row(test, m));
    if (&p == &test.value) return row;
    for (std::int64_t first = 0; first < p.out.cols(); first += test.setup.d) {
        double *values = row.values.data() + first, *errors = row.errors.data() + first;
        if (test.setup.head_norms) normalize_head(test, p, values, errors);
        if (test.setup.rope) turn_head(test, m, values, errors);
    }
    return row;
}

bool row_is(const TestMatrix& matrix, std::int64_t r, const Expected& expected) {
    for (std::int64_t c = 0; c < matrix.cols(); ++c) {
        const auto at = static_cast<std::size_t>(c);
        const double rounded = (1e-6 + rounding(matrix.dtype())) * std::abs(expected.values[at]);
        if (!(std::abs(matrix.at(r, c) - expected.values[at]) <= expected.errors[at] + rounded)) return false;
    }
    return true;
}

// The rows named are the heads; nothing else was written.
bool cache_is(const ProjectedHeads& test, const Projection& p) {
    for (std::int64_t r = 0; r < kCacheRows; ++r) {
        std::int64_t source = -1;
        for (std::int64_t m = 0; m < test.setup.rows && test.setup.cache; ++m) {
            if (test.cache_rows[m] == r) source = m;
        }
        if (source >= 0 && !row_is(p.cache, r, expected_row(test, p, source))) return false;
        const std::int64_t end = p.cache.cols() + (r + 1 < kCacheRows ? 5 : 0);
        for (std::int64_t c = source < 0 ? 0 : p.cache.cols(); c < end; ++c) {
            if (!std::isnan(p.cache.at(r, c))) return false;
        }
    }
    return true;
}

bool outputs_are(const ProjectedHeads& test, const Projection& p) {
    for (std::int64_t m = 0; m < test.setup.rows; ++m) {
        if (!row_is(p.out, m, expected_row(test, p, m))) return false;
    }
    return p.out.is_written_exactly();
}

bool sources_are(const ProjectedHeads& test, const Projection& p) {
    for (std::int64_t m = 0; m < test.setup.beside; ++m) {
        std::vector<double> x;
        for (std::int64_t c = 0; c < test.setup.cols; ++c) x.push_back(test.source.at(m, c));
        if (!row_is(p.beside, m, project(test, p, x))) return false;
    }
    return p.beside.is_written_exactly();
}

void check_heads(const HeadsCase& c, Random& random) {
    const ProjectedHeads test(c, random);
    test.run();
    REQUIRE(outputs_are(test, test.query));
    REQUIRE(cache_is(test, test.key));
    REQUIRE(cache_is(test, test.value));
    REQUIRE(sources_are(test, test.key));
    REQUIRE(sources_are(test, test.value));
    if (c.cache && c.only) return;
    REQUIRE(outputs_are(test, test.key));
    REQUIRE(outputs_are(test, test.value));
}

}  // namespace

OP_TEST(project_heads_of_every_number_of_rows) {
    Random random(1);
    for (std::int64_t rows = 1; rows <= 17; ++rows) {
        for (const bool only : {false, true}) {
            for (const bool head_norms : {false, true}) {
                check_heads({.rows = rows, .head_norms = head_norms, .only = only}, random);
            }
        }
    }
}

OP_TEST(project_heads_of_every_weight_type) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t least : {33, 80, 528}) {
            const std::int64_t cols = whole_columns(dtype, least);
            for (const bool norm : {false, true}) {
                check_heads({.weights = dtype, .cols = cols, .norm = norm, .bias = !norm}, random);
            }
        }
    }
}

// The last is wider than the kernel's lanes hold.
OP_TEST(project_heads_of_every_head_dim_and_number_of_heads) {
    Random random(3);
    for (const std::int64_t d : {2, 6, 64, 80, 126, 256, 258}) {
        check_heads({.cols = 16, .heads = 2, .kv_heads = 1, .d = d, .head_norms = true}, random);
    }
    for (const std::int64_t kv_heads : {1, 3, 12}) {
        for (const std::int64_t heads : {kv_heads, 12L}) {
            check_heads({.rows = 2, .heads = heads, .kv_heads = kv_heads, .d = 8}, random);
            check_heads({.rows = 2, .heads = heads, .kv_heads = kv_heads, .d = 8, .only = false}, random);
        }
    }
}

OP_TEST(project_heads_with_any_of_its_parts) {
    Random random(4);
    for (const bool head_norms : {false, true}) {
        for (const bool rope : {false, true}) {
            for (const bool cache : {false, true}) {
                for (const std::int64_t rows : {2, 19}) {
                    check_heads({.rows = rows, .head_norms = head_norms, .rope = rope, .cache = cache}, random);
                }
            }
        }
    }
    check_heads({.head_norms = true, .head_norm = NormKind::kLayerNorm}, random);
}

// Only one of q and k may have a norm or a rotation, and each its own.
OP_TEST(project_heads_takes_rotations_of_their_own) {
    Random random(5);
    for (const bool same : {false, true}) {
        const ProjectedHeads test({.cache = false}, random);
        const LinearArgs products[] = {test.product(test.query), test.product(test.key), test.product(test.value)};
        const NormArgs norm{test.x.view(), test.norm_weight.view(), {}, NormKind::kRmsNorm, 1e-5f, test.normed.view()};
        const TestIds elsewhere{5, 6, 7};
        ProjectHeadsArgs args{.norm = norm,
                              .products = products,
                              .query_norm = {},
                              .key_norm = {},
                              .query_rope = {},
                              .key_rope = test.rotation(test.key),
                              .key_cache = {},
                              .value_cache = {}};
        if (!same) args.query_rope = test.rotation(test.query);
        if (!same) args.query_rope->positions = elsewhere.data();
        backend().project_heads(args);
        CHECK(outputs_are(test, test.key));
        for (std::int64_t m = 0; m < test.setup.rows; ++m) {
            Expected row = project(test, test.query, input_row(test, m));
            if (!same) test.positions.set(m, elsewhere[m]);
            CHECK(row_is(test.query.out, m, same ? row : expected_row(test, test.query, m)));
        }
    }
}

OP_TEST(project_heads_refuses_caches_that_do_not_fit) {
    Random random(6);
    const ProjectedHeads test({}, random);
    const LinearArgs products[] = {test.product(test.query), test.product(test.key), test.product(test.value)};
    const ProjectHeadsArgs args{.norm = {},
                                .products = products,
                                .query_norm = {},
                                .key_norm = {},
                                .query_rope = test.rotation(test.query),
                                .key_rope = test.rotation(test.key),
                                .key_cache = test.query.cache.view(),
                                .value_cache = test.value.cache.view(),
                                .cache_rows = test.cache_rows.data(),
                                .cache_only = true};
    CHECK_ERROR(backend().project_heads(args), ErrorCode::kInternal, "differ in columns");
}

// As in a layer whose keys and values of the source have the self-attention's weights.
OP_TEST(project_heads_beside_a_source) {
    Random random(6);
    for (const std::int64_t rows : {1, 4, 15, 20}) {
        for (const std::int64_t source : {1, 3, 12, 15, 30}) {
            for (const bool cache : {false, true}) {
                check_heads({.rows = rows, .rope = false, .cache = cache, .only = false, .beside = source}, random);
            }
        }
    }
    for (const DType dtype : kWeightTypes) {
        for (const bool norm : {false, true}) {
            for (const bool only : {false, true}) {
                const HeadsCase plain{
                    .weights = dtype, .cols = 544, .norm = norm, .rope = false, .only = only, .beside = 5};
                check_heads(plain, random);
            }
        }
        check_heads({.weights = dtype, .cols = 64, .head_norms = true, .beside = 5}, random);
    }
}
