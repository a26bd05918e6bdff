#include "ops/cpu_backend.h"
#include "ops/cpu_scratch.h"

namespace lrengine {

namespace {

float factor_of(const Weight& table, std::int64_t row) { return table.scales ? table.scales[row] : 1.0f; }

const void* row_of(const Weight& table, std::int64_t row) {
    return static_cast<const char*>(table.data) + row * row_bytes(table);
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
            kernels_.widen(args.word.dtype, row_of(args.word, id), args.scale * factor_of(args.word, id), size, out);
            if (positioned) {
                const std::int64_t place = args.positions[m];
                expect(place >= 0 && place < args.position.rows, "embedding: position outside the table");
                const float factor = factor_of(args.position, place);
                kernels_.widen(args.position.dtype, row_of(args.position, place), factor, size, position);
                kernels_.add(out, position, size, out);
            }
            if (args.type) kernels_.add(out, args.type.data, size, out);
        }
    });
}

}  // namespace lrengine
