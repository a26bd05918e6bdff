#include <cmath>

#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

void rotate(float* head, const float* cosine, const float* sine, std::int64_t half) {
    for (std::int64_t j = 0; j < half; ++j) {
        const float low = head[j], high = head[j + half];
        head[j] = low * cosine[j] - high * sine[j];
        head[j + half] = high * cosine[j] + low * sine[j];
    }
}

}  // namespace

void CpuBackend::rope(const RopeArgs& args) {
    const std::int64_t half = args.head_dim / 2;
    expect(args.head_dim % 2 == 0 && args.inv_freq.size == half, "rope: inv_freq is not [d/2]");
    expect(has_shape(args.x, args.x.rows, args.heads * args.head_dim), "rope: x is not [M, H*d]");
    // A sine costs about as much as sixteen products.
    parallel(args.x.rows, args.x.cols + 32 * half, [&](std::int64_t begin, std::int64_t end) {
        float* cosine = piece_scratch().get<float>(2 * half);
        float* sine = cosine + half;
        for (std::int64_t m = begin; m < end; ++m) {
            const auto position = static_cast<float>(args.positions[m]);
            for (std::int64_t j = 0; j < half; ++j) {
                const float angle = position * args.inv_freq.data[j];
                cosine[j] = std::cos(angle) * args.attention_scaling;
                sine[j] = std::sin(angle) * args.attention_scaling;
            }
            float* row = args.x.row<float>(m);
            for (std::int64_t h = 0; h < args.heads; ++h) rotate(row + h * args.head_dim, cosine, sine, half);
        }
    });
}

}  // namespace lrengine
