#include <algorithm>
#include <cstring>

#include "ops/cpu_backend.h"

namespace lrengine {

namespace {

// An exp and a division, in element costs.
constexpr std::int64_t kActivationCost = 8;

void copy_row(const Matrix& source, std::int64_t from, const Matrix& destination, std::int64_t to) {
    const auto bytes = static_cast<std::size_t>(source.cols) * sizeof(float);
    if (bytes > 0) std::memcpy(destination.row<float>(to), source.row<float>(from), bytes);
}

}  // namespace

void CpuBackend::gated(const GatedArgs& args) {
    const std::int64_t rows = args.out.rows, size = args.out.cols;
    expect(has_shape(args.gate, rows, size) && has_shape(args.up, rows, size) && has_shape(args.out, rows, size),
           "gated: gate, up and out are not all [M, F]");
    parallel(rows, kActivationCost * size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t m = begin; m < end; ++m) {
            kernels_.gated(args.activation, args.gate.row<float>(m), args.up.row<float>(m), size,
                           args.out.row<float>(m));
        }
    });
}

void CpuBackend::add(const AddArgs& args) {
    const std::int64_t rows = args.out.rows, size = args.out.cols;
    expect(has_shape(args.a, rows, size) && has_shape(args.b, rows, size) && has_shape(args.out, rows, size),
           "add: a, b and out are not all [M, D]");
    parallel(rows, size, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t m = begin; m < end; ++m) {
            kernels_.add(args.a.row<float>(m), args.b.row<float>(m), size, args.out.row<float>(m));
        }
    });
}

void CpuBackend::scatter_rows(const ScatterRowsArgs& args) {
    const Matrix& source = args.source;
    expect(
        has_shape(source, source.rows, source.cols) && has_shape(args.destination, args.destination.rows, source.cols),
        "scatter_rows: source and destination differ in columns");
    parallel(source.rows, source.cols, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t m = begin; m < end; ++m) {
            expect(args.rows[m] >= 0 && args.rows[m] < args.destination.rows, "scatter_rows: row outside destination");
            copy_row(source, m, args.destination, args.rows[m]);
        }
    });
}

void CpuBackend::gather_rows(const GatherRowsArgs& args) {
    const Matrix& out = args.out;
    expect(has_shape(out, out.rows, out.cols) && has_shape(args.source, args.source.rows, out.cols),
           "gather_rows: source and out differ in columns");
    parallel(out.rows, out.cols, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t m = begin; m < end; ++m) {
            expect(args.rows[m] >= 0 && args.rows[m] < args.source.rows, "gather_rows: row outside source");
            copy_row(args.source, args.rows[m], out, m);
        }
    });
}

void CpuBackend::mean_pool(const MeanPoolArgs& args) {
    const Packing& sequences = args.sequences;
    const std::int64_t size = args.x.cols;
    expect(has_shape(args.x, args.x.rows, size) && has_shape(args.out, sequences.count, size),
           "mean_pool: out is not [B, D]");
    expect(sequences.rows() <= args.x.rows, "mean_pool: fewer rows than the packing has");
    const std::int64_t cost = args.x.rows * size / std::max<std::int64_t>(sequences.count, 1);
    parallel(sequences.count, cost, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            float* out = args.out.row<float>(b);
            const std::int64_t length = sequences.length(b);
            std::fill_n(out, size, 0.0f);
            for (std::int64_t i = 0; i < length; ++i) {
                kernels_.add(out, args.x.row<float>(sequences.host[b] + i), size, out);
            }
            if (length > 0) kernels_.widen(DType::kFloat32, out, 1.0f / static_cast<float>(length), size, out);
        }
    });
}

}  // namespace lrengine
