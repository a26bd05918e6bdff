// Kernels that a layer of a decode step costs: each is some microseconds, in which its weights could have been read.
#include "op_testing.h"

namespace {

using namespace op_testing;

// Llama's layer as models/llm.cpp runs it, with the norms of Qwen3's heads if asked for.
class Layer {
public:
    Layer(std::int64_t rows, bool head_norms, Random& random)
        : head_norms_(head_norms),
          x_(rows, kWidth, random, 0, DType::kFloat32),
          normed_(rows, kWidth, 0),
          query_(rows, kHeads * kDim, 0),
          key_(rows, kDim, 0),
          value_(rows, kDim, 0),
          mixed_(rows, kHeads * kDim, 0),
          gate_(rows, kInner, 0),
          hidden_(rows, kInner, 0),
          keys_(2 * rows, kDim, random, 0),
          values_(2 * rows, kDim, random, 0),
          to_query_(activation_type(), kHeads * kDim, kWidth, random),
          to_key_(activation_type(), kDim, kWidth, random),
          to_value_(activation_type(), kDim, kWidth, random),
          to_out_(activation_type(), kWidth, kHeads * kDim, random),
          to_gate_(activation_type(), kInner, kWidth, random),
          to_up_(activation_type(), kInner, kWidth, random),
          to_down_(activation_type(), kWidth, kInner, random),
          norm_weight_(random.floats(kWidth)),
          head_norm_(random.floats(kDim)),
          inv_freq_(random.floats(kDim / 2)),
          positions_(TestIds::filled(rows, 1)),
          lengths_(TestIds::filled(rows, 2)),
          begins_(every_second(rows, 0)),
          cache_rows_(every_second(rows, 1)) {}

    void run() const {
        project_heads();
        backend().attend_project({.attention = {query_.view(), mixed_.view(), keys_.view(), values_.view(),
                                                begins_.data(), lengths_.data(), nullptr, 2, kHeads, 1, kDim, 0.25f},
                                  .out = {mixed_.view(), to_out_.view(), {}, x_.view(), x_.view()}});
        backend().feed_forward({.norm = norm(),
                                .gate = {normed_.view(), to_gate_.view(), {}, {}, gate_.view()},
                                .in = {normed_.view(), to_up_.view(), {}, {}, hidden_.view()},
                                .activation = Activation::kSilu,
                                .out = {hidden_.view(), to_down_.view(), {}, x_.view(), x_.view()}});
    }

    // Of one run, once everything has its memory.
    std::int64_t launches() const {
        backend().repeat(++keys_used(), [&] { run(); });
        const std::int64_t before = backend().launches();
        backend().repeat(keys_used(), [&] { run(); });
        const std::int64_t after = backend().launches();
        backend().forget();  // this object's memory goes
        return after - before;
    }

private:
    static constexpr std::int64_t kWidth = 32, kHeads = 2, kDim = 16, kInner = 48;

    static std::uint64_t& keys_used() {
        static std::uint64_t keys = 0;
        return keys;
    }

    static std::vector<std::int32_t> every_second(std::int64_t rows, std::int32_t first) {
        std::vector<std::int32_t> all;
        for (std::int64_t m = 0; m < rows; ++m) all.push_back(static_cast<std::int32_t>(2 * m) + first);
        return all;
    }

    NormArgs norm() const { return {x_.view(), norm_weight_.view(), {}, NormKind::kRmsNorm, 1e-5f, normed_.view()}; }

    NormArgs norm_of_heads(const TestMatrix& heads) const {
        const Matrix all = heads.view();
        const Matrix rows{all.data, all.dtype, all.rows * all.cols / kDim, kDim, kDim};
        return {rows, head_norm_.view(), {}, NormKind::kRmsNorm, 1e-5f, rows};
    }

    RopeArgs rotation(const TestMatrix& heads) const {
        return {heads.view(), positions_.data(), inv_freq_.view(), heads.cols() / kDim, kDim, 1.0f};
    }

    void project_heads() const {
        const auto product = [&](const TestWeight& weight, const TestMatrix& out) {
            return LinearArgs{normed_.view(), weight.view(), {}, {}, out.view()};
        };
        const LinearArgs products[] = {product(to_query_, query_), product(to_key_, key_), product(to_value_, value_)};
        ProjectHeadsArgs args{.norm = norm(),
                              .products = products,
                              .query_norm = {},
                              .key_norm = {},
                              .query_rope = rotation(query_),
                              .key_rope = rotation(key_),
                              .key_cache = keys_.view(),
                              .value_cache = values_.view(),
                              .cache_rows = cache_rows_.data(),
                              .cache_only = true};
        if (head_norms_) args.query_norm = norm_of_heads(query_);
        if (head_norms_) args.key_norm = norm_of_heads(key_);
        backend().project_heads(args);
    }

    bool head_norms_;
    TestMatrix x_, normed_, query_, key_, value_, mixed_, gate_, hidden_, keys_, values_;
    TestWeight to_query_, to_key_, to_value_, to_out_, to_gate_, to_up_, to_down_;
    TestVector norm_weight_, head_norm_, inv_freq_;
    TestIds positions_, lengths_, begins_, cache_rows_;
};

}  // namespace

// The CPU launches nothing.
OP_TEST(a_layer_of_a_decode_step_is_four_launches) {
    Random random(1);
    for (const std::int64_t rows : {1, 4, 16}) {
        for (const bool head_norms : {false, true}) {
            const Layer layer(rows, head_norms, random);
            CHECK_EQUAL(layer.launches(), on_cuda() ? std::int64_t{4} : std::int64_t{0});
        }
    }
}
