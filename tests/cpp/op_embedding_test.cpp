// Sums of table rows for ids and positions.
#include "op_testing.h"

namespace {

using namespace op_testing;

}  // namespace

OP_TEST(embedding_sums_word_position_and_type) {
    Random random(1);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t least : {1, 16, 45}) {
            const std::int64_t size = whole_columns(dtype, least);
            const TestWeight word(dtype, 13, size, random), position(DType::kFloat32, 9, size, random);
            const TestVector type(random.floats(size));
            const TestIds ids{0, 12, 5, 5, 1}, places{8, 0, 3, 4, 2};
            const TestMatrix out(5, size);
            backend().embedding(
                {ids.data(), places.data(), word.view(), position.view(), type.view(), 4.5f, out.view()});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) {
                return 4.5 * word.at(ids[m], c) + position.at(places[m], c) + type[c];
            });
            backend().embedding({ids.data(), nullptr, word.view(), {}, {}, 1.0f, out.view()});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) { return word.at(ids[m], c); });
        }
    }
}

CPU_TEST(embedding_refuses_rows_outside_its_tables, "a GPU's ids are on the device: callers check them") {
    Random random(2);
    const TestWeight word(DType::kFloat32, 4, 8, random), position(DType::kFloat32, 2, 8, random);
    const TestMatrix out(1, 8);
    const std::int32_t high = 4, negative = -1, good = 1, far = 2;
    CHECK_ERROR(backend().embedding({&high, nullptr, word.view(), {}, {}, 1.0f, out.view()}), ErrorCode::kInternal,
                "id");
    CHECK_ERROR(backend().embedding({&negative, nullptr, word.view(), {}, {}, 1.0f, out.view()}), ErrorCode::kInternal,
                "id");
    CHECK_ERROR(backend().embedding({&good, &far, word.view(), position.view(), {}, 1.0f, out.view()}),
                ErrorCode::kInternal, "position");
}
