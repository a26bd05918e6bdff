#include "ops/cpu_backend.h"

namespace lrengine {

void CpuBackend::norm(const NormArgs& args) {
    const std::int64_t rows = args.x.rows, size = args.x.cols;
    expect(has_shape(args.x, rows, size) && has_shape(args.out, rows, size), "norm: x and out are not both [M, D]");
    expect(args.weight && args.weight.size == size, "norm: weight is not [D]");
    expect(!args.bias || args.bias.size == size, "norm: bias is not [D]");
    parallel(rows, 4 * size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t m = begin; m < end; ++m) {
            kernels_.norm(args.kind, args.x.row<float>(m), args.weight.data, args.bias.data, args.eps, size,
                          args.out.row<float>(m));
        }
    });
}

}  // namespace lrengine
