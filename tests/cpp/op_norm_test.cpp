// LayerNorm and RMSNorm against a float64 twin.
#include "op_testing.h"

namespace {

using namespace op_testing;

double expected_norm(NormKind kind, const TestMatrix& x, const std::vector<float>& weight, const float* bias,
                     double eps, std::int64_t m, std::int64_t c) {
    const auto size = static_cast<double>(x.cols());
    double mean = 0, squares = 0;
    if (kind == NormKind::kLayerNorm) {
        for (std::int64_t i = 0; i < x.cols(); ++i) mean += x.at(m, i) / size;
    }
    for (std::int64_t i = 0; i < x.cols(); ++i) squares += (x.at(m, i) - mean) * (x.at(m, i) - mean);
    const double scaled = (x.at(m, c) - mean) / std::sqrt(squares / size + eps);
    return scaled * weight[static_cast<std::size_t>(c)] + (bias != nullptr ? bias[c] : 0.0f);
}

}  // namespace

TEST(norm_at_odd_sizes) {
    Random random(1);
    for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
        for (const std::int64_t size : {1, 2, 15, 16, 17, 63, 64, 65, 100, 129, 768}) {
            for (const bool has_bias : {false, true}) {
                const TestMatrix x(5, size, random), out(5, size, 7);
                const std::vector<float> weight = random.floats(size), bias = random.floats(size);
                NormArgs args{x.view(), vector_of(weight), {}, kind, 1e-5f, out.view()};
                if (has_bias) args.bias = vector_of(bias);
                backend().norm(args);
                check_close(out, 5e-6, [&](std::int64_t m, std::int64_t c) {
                    return expected_norm(kind, x, weight, args.bias.data, args.eps, m, c);
                });
            }
        }
    }
}

// A variance from the mean of squares would lose every digit here.
TEST(layer_norm_centres_before_it_squares) {
    Random random(2);
    const TestMatrix x(1, 300, random), out(1, 300);
    for (std::int64_t c = 0; c < 300; ++c) x.at(0, c) += 4096.0f;
    const std::vector<float> weight(300, 1.0f);
    backend().norm({x.view(), vector_of(weight), {}, NormKind::kLayerNorm, 1e-5f, out.view()});
    check_close(out, 1e-3, [&](std::int64_t m, std::int64_t c) {
        return expected_norm(NormKind::kLayerNorm, x, weight, nullptr, 1e-5, m, c);
    });
}

TEST(norm_may_write_over_its_input_and_gives_the_same_bits_with_any_threads) {
    Random random(3);
    const TestMatrix x(150, 400, random), out(150, 400), alone(1, 400);
    const std::vector<float> weight = random.floats(400);
    NormArgs args{x.view(), vector_of(weight), {}, NormKind::kRmsNorm, 1e-6f, out.view()};
    backend(5).norm(args);
    args.x = x.view().slice(37, 1);
    args.out = alone.view();
    backend(1).norm(args);
    CHECK(same_bits(&alone.at(0, 0), &out.at(37, 0), 400));
    args.x = args.out = x.view();
    backend(2).norm(args);
    CHECK(same_bits(x, out));
}
