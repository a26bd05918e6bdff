#include "core/int4_groups.h"
#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

float factor_of(const Weight& table, std::int64_t row) { return table.scales ? table.scales[row] : 1.0f; }

// out = factor * a row of the table.
void widen(const CpuKernels& kernels, const Weight& table, std::int64_t row, float factor, float* out) {
    const Weight one = table.slice(row, 1);
    if (table.dtype == DType::kInt4) {
        dequantize_groups(static_cast<const std::uint8_t*>(one.data), one.group_scales, table.group_size,
                          {out, static_cast<std::size_t>(table.cols)});
        return kernels.widen(DType::kFloat32, out, factor, table.cols, out);
    }
    kernels.widen(table.dtype, one.data, factor * factor_of(table, row), table.cols, out);
}

}  // namespace

void CpuBackend::embedding(const EmbeddingArgs& args) {
    const std::int64_t rows = args.out.rows, size = args.word.cols;
    const bool positioned = args.positions != nullptr && args.position;
    expect(args.word && has_shape(args.out, rows, size), "embedding: out is not [M, D]");
    expect(!positioned || args.position.cols == size, "embedding: position table is not [P, D]");
    expect(!args.type || args.type.size == size, "embedding: type is not [D]");
    parallel(rows, 2 * size, [&](std::int64_t begin, std::int64_t end) {
        float* position = piece_scratch().get<float>(size);
        for (std::int64_t m = begin; m < end; ++m) {
            const std::int64_t id = args.ids[m];
            expect(id >= 0 && id < args.word.rows, "embedding: id outside the table");
            float* out = args.out.row<float>(m);
            widen(kernels_, args.word, id, args.scale, out);
            if (positioned) {
                const std::int64_t place = args.positions[m];
                expect(place >= 0 && place < args.position.rows, "embedding: position outside the table");
                widen(kernels_, args.position, place, 1.0f, position);
                kernels_.add(out, position, size, out);
            }
            if (args.type) kernels_.add(out, args.type.data, size, out);
        }
    });
}

}  // namespace lrengine
