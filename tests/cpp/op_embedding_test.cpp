// Sums of table rows for ids and positions.
#include "core/error.h"
#include "op_testing.h"

namespace {

using namespace op_testing;

}  // namespace

TEST(embedding_sums_word_position_and_type) {
    Random random(1);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t size : {1, 16, 45}) {
            const TestWeight word(dtype, 13, size, random), position(DType::kFloat32, 9, size, random);
            const std::vector<float> type = random.floats(size);
            const std::int32_t ids[] = {0, 12, 5, 5, 1}, places[] = {8, 0, 3, 4, 2};
            const TestMatrix out(5, size);
            backend().embedding({ids, places, word.view(), position.view(), vector_of(type), 4.5f, out.view()});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) {
                return 4.5 * word.at(ids[m], c) + position.at(places[m], c) + type[static_cast<std::size_t>(c)];
            });
            backend().embedding({ids, nullptr, word.view(), {}, {}, 1.0f, out.view()});
            check_close(out, 1e-6, [&](std::int64_t m, std::int64_t c) { return word.at(ids[m], c); });
        }
    }
}

TEST(embedding_refuses_rows_outside_its_tables) {
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
