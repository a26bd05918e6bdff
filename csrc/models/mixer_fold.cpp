#include <cmath>
#include <string>

#include "models/host_copy.h"
#include "models/mixer.h"

namespace lrengine {

namespace {

// Rows [first, first + count) of a row-major [*, cols] matrix times x, plus b.
std::vector<double> times(std::span<const float> matrix, std::int64_t first, std::int64_t count,
                          std::span<const double> x, std::span<const float> b) {
    const auto cols = static_cast<std::int64_t>(x.size());
    std::vector<double> result;
    for (std::int64_t row = first; row < first + count; ++row) {
        double sum = b[static_cast<std::size_t>(row)];
        const float* values = matrix.data() + row * cols;
        for (std::int64_t col = 0; col < cols; ++col) {
            sum += static_cast<double>(values[col]) * x[static_cast<std::size_t>(col)];
        }
        result.push_back(sum);
    }
    return result;
}

double dot(const float* a, std::span<const double> b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < b.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
}

std::vector<float> narrow(std::span<const double> values) { return {values.begin(), values.end()}; }

// Wo Wv, [D, D] float32: a product like any other, on a device that computes in float32.
std::vector<float> value_product(std::span<float> wo, std::span<const float> wv, std::int64_t width, Backend& backend) {
    std::vector<float> transposed(wv.size()), result(wv.size());
    constexpr std::int64_t kTile = 16;  // a cache line of floats
    for (std::int64_t top = 0; top < width; top += kTile) {
        for (std::int64_t left = 0; left < width; left += kTile) {
            for (std::int64_t i = top; i < std::min(top + kTile, width); ++i) {
                for (std::int64_t j = left; j < std::min(left + kTile, width); ++j) {
                    transposed[static_cast<std::size_t>(j * width + i)] = wv[static_cast<std::size_t>(i * width + j)];
                }
            }
        }
    }
    const bool on_host = backend.shares_host_memory() && backend.activation_dtype() == DType::kFloat32;
    const std::unique_ptr<Backend> other = on_host ? nullptr : make_cpu_backend(0);
    Backend& host = on_host ? backend : *other;
    host.linear({.x = {wo.data(), DType::kFloat32, width, width, width},
                 .weight = {.data = transposed.data(), .rows = width, .cols = width},
                 .bias = {},
                 .residual = {},
                 .out = {result.data(), DType::kFloat32, width, width, width}});
    return result;
}

}  // namespace

FoldedMixerAttention fold_mixer_attention(std::int64_t layers, std::int64_t width, WeightLoader& loader,
                                          Backend& backend, WeightStorage& storage) {
    FoldedMixerAttention folded;
    folded.positions = loader.table("mixer.position_embeddings", layers, width);
    folded.cls = loader.vector("mixer.cls", width);
    const std::string name = "mixer.attention.";
    // Rows: Wq, Wk, Wv.
    const std::vector<float> in = read_back(loader.table(name + "in_proj_weight", 3 * width, width), backend);
    const std::vector<float> in_bias = read_back(loader.vector(name + "in_proj_bias", 3 * width), backend);
    std::vector<float> out = read_back(loader.table(name + "out_proj.weight", width, width), backend);
    const std::vector<float> out_bias = read_back(loader.vector(name + "out_proj.bias", width), backend);
    const std::vector<float> positions = read_back(folded.positions, backend);
    const std::vector<float> cls = read_back(folded.cls, backend);

    std::vector<double> query = times(in, 0, width, std::vector<double>(cls.begin(), cls.end()), in_bias);
    for (double& value : query) value /= std::sqrt(static_cast<double>(width));
    std::vector<double> key(static_cast<std::size_t>(width), 0.0);
    for (std::int64_t i = 0; i < width; ++i) {
        const float* row = in.data() + (width + i) * width;
        for (std::size_t j = 0; j < key.size(); ++j) key[j] += query[static_cast<std::size_t>(i)] * row[j];
    }
    const double bias = dot(in_bias.data() + width, query);
    std::vector<double> scores{dot(cls.data(), key) + bias};
    for (std::int64_t l = 0; l < layers; ++l) scores.push_back(dot(positions.data() + l * width, key) + bias);

    const std::span wv = std::span(in).subspan(static_cast<std::size_t>(2 * width * width));
    const std::vector<double> value_bias(in_bias.begin() + 2 * width, in_bias.end());
    std::vector<double> product_bias = times(out, 0, width, value_bias, out_bias);
    for (std::size_t i = 0; i < product_bias.size(); ++i) product_bias[i] += static_cast<double>(cls[i]);

    folded.key = store(narrow(key), backend, storage);
    folded.score_bias = store(narrow(scores), backend, storage);
    const Vector product = store(value_product(out, wv, width, backend), backend, storage);
    folded.value.weight = {.data = product.data, .dtype = DType::kFloat32, .rows = width, .cols = width};
    folded.value.bias = store(narrow(product_bias), backend, storage);
    return folded;
}

}  // namespace lrengine
