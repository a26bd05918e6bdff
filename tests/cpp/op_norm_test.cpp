// LayerNorm and RMSNorm against a float64 twin.
#include "op_testing.h"

namespace {

using namespace op_testing;

// Mean and 1 / sqrt(variance + eps) of every row.
class NormReference {
public:
    NormReference(NormKind kind, const TestMatrix& x, double eps) : x_(x) {
        const auto size = static_cast<double>(x.cols());
        for (std::int64_t m = 0; m < x.rows(); ++m) {
            double mean = 0, squares = 0;
            if (kind == NormKind::kLayerNorm) {
                for (std::int64_t i = 0; i < x.cols(); ++i) mean += x.at(m, i) / size;
            }
            for (std::int64_t i = 0; i < x.cols(); ++i) squares += (x.at(m, i) - mean) * (x.at(m, i) - mean);
            means_.push_back(mean);
            factors_.push_back(1 / std::sqrt(squares / size + eps));
        }
    }
    double at(std::int64_t m, std::int64_t c) const {
        return (x_.at(m, c) - means_[static_cast<std::size_t>(m)]) * factors_[static_cast<std::size_t>(m)];
    }

private:
    const TestMatrix& x_;
    std::vector<double> means_, factors_;
};

void check_norm(NormKind kind, const TestMatrix& x, const TestMatrix& out, bool has_bias, Random& random) {
    const TestVector weight(random.floats(x.cols())), bias(random.floats(x.cols()));
    NormArgs args{x.view(), weight.view(), {}, kind, 1e-5f, out.view()};
    if (has_bias) args.bias = bias.view();
    backend().norm(args);
    const NormReference reference(kind, x, args.eps);
    check_close(out, 5e-6, [&](std::int64_t m, std::int64_t c) {
        return reference.at(m, c) * weight[c] + (has_bias ? bias[c] : 0.0f);
    });
}

}  // namespace

OP_TEST(norm_at_odd_sizes) {
    Random random(1);
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
        for (const std::int64_t size : {1, 2, 15, 16, 17, 63, 64, 65, 100, 129, 768}) {
            for (const bool has_bias : {false, true}) {
                check_norm(kind, TestMatrix(5, size, random), TestMatrix(5, size, 7), has_bias, random);
            }
        }
    }
}

OP_TEST(norm_of_aligned_rows_and_of_wide_ones) {
    Random random(4);
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
        for (const std::int64_t size : {64, 1024, 1032, 4096}) {
            check_norm(kind, TestMatrix(5, size, random, 8), TestMatrix(5, size, 16), true, random);
        }
        check_norm(kind, TestMatrix(2, 9001, random), TestMatrix(2, 9001), false, random);
    }
}

OP_TEST(norm_between_types) {
    Random random(5);
    for (const DType from : activation_types()) {
        for (const std::int64_t gap : {3, 8}) {
            const TestMatrix x(3, 136, random, gap, from), out(3, 136, gap);
            check_norm(NormKind::kRmsNorm, x, out, false, random);
        }
    }
}

// A variance from the mean of squares would lose every digit here.
OP_TEST(layer_norm_centres_before_it_squares) {
    Random random(2);
    const TestMatrix x(1, 300, random, 3, DType::kFloat32), out(1, 300);
    for (std::int64_t c = 0; c < 300; ++c) x.set(0, c, x.at(0, c) + 4096.0f);
    const TestVector weight = TestVector::filled(300, 1.0f);
    backend().norm({x.view(), weight.view(), {}, NormKind::kLayerNorm, 1e-5f, out.view()});
    const NormReference reference(NormKind::kLayerNorm, x, 1e-5);
    check_close(out, 1e-3, [&](std::int64_t m, std::int64_t c) { return reference.at(m, c); });
}

OP_TEST(norm_may_write_over_its_input) {
    Random random(3);
    const TestMatrix x(7, 400, random), out(7, 400);
    const TestVector weight(random.floats(400));
    NormArgs args{x.view(), weight.view(), {}, NormKind::kRmsNorm, 1e-6f, out.view()};
    backend().norm(args);
    args.out = args.x;
    backend().norm(args);
    CHECK(same_bits(x, out));
}

CPU_TEST(norm_gives_the_same_bits_with_any_threads, "a GPU has no threads to choose") {
    Random random(6);
    const TestMatrix x(150, 400, random), out(150, 400), alone(1, 400);
    const TestVector weight(random.floats(400));
    NormArgs args{x.view(), weight.view(), {}, NormKind::kRmsNorm, 1e-6f, out.view()};
    backend(5).norm(args);
    args.x = x.view().slice(37, 1);
    args.out = alone.view();
    backend(1).norm(args);
    CHECK(same_bits(alone, 0, out, 37));
}

OP_TEST(norm_refuses_shapes_that_do_not_fit) {
    Random random(7);
    const TestMatrix x(2, 8, random), out(2, 8), narrow(2, 7);
    const TestVector weight(random.floats(8)), shorter(random.floats(7));
    NormArgs args{x.view(), weight.view(), {}, NormKind::kRmsNorm, 1e-6f, narrow.view()};
    CHECK_ERROR(backend().norm(args), ErrorCode::kInternal, "x and out");
    args.out = out.view();
    args.weight = shorter.view();
    CHECK_ERROR(backend().norm(args), ErrorCode::kInternal, "weight is not");
}
