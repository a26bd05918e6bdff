#include "core/arena.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/weight_storage.h"
#include "harness.h"
#include "host_backend.h"

using namespace lrengine;

namespace {

bool is_aligned(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory) % 64 == 0; }

}  // namespace

TEST(arena_hands_out_aligned_memory_that_does_not_overlap) {
    HostBackend backend;
    Arena arena(backend);
    char* before = nullptr;
    for (const std::size_t bytes : {1u, 63u, 64u, 65u, 1000u, 0u, 7u}) {
        auto* memory = static_cast<char*>(arena.allocate(bytes));
        CHECK(is_aligned(memory));
        CHECK(before == nullptr || memory >= before);
        before = memory + bytes;
    }
    CHECK_EQUAL(backend.blocks.size(), 1u);
    CHECK(arena.reserved_bytes() >= std::size_t{1} << 20);
}

TEST(arena_gives_the_same_memory_after_a_reset) {
    HostBackend backend;
    Arena arena(backend);
    const std::vector<std::size_t> sizes{100, 700'000, 700'000, 5'000'000, 64, 900'000, 3'000'000};
    std::vector<void*> first, second;
    const Arena::Mark start = arena.mark();
    for (const std::size_t bytes : sizes) first.push_back(arena.allocate(bytes));
    const std::size_t reserved = arena.reserved_bytes();
    arena.reset_to(start);
    for (const std::size_t bytes : sizes) second.push_back(arena.allocate(bytes));
    CHECK(first == second);
    CHECK_EQUAL(arena.reserved_bytes(), reserved);
}

TEST(arena_scope_gives_back_what_was_taken_inside) {
    HostBackend backend;
    Arena arena(backend);
    arena.allocate(10);
    void* inside = nullptr;
    {
        const ArenaScope scope(arena);
        inside = arena.allocate(4'000'000);
    }
    CHECK(arena.allocate(4'000'000) == inside);
}

TEST(arena_that_meets_slowly_growing_shapes_takes_few_blocks) {
    HostBackend backend;
    Arena arena(backend);
    for (std::size_t bytes = 2'000'000; bytes < 4'000'000; bytes += 1000) {
        const ArenaScope scope(arena);
        arena.allocate(bytes);
    }
    CHECK(backend.blocks.size() <= 6);
}

TEST(arena_matrix_is_dense) {
    HostBackend backend;
    Arena arena(backend);
    const Matrix matrix = arena.matrix(3, 5, DType::kFloat32);
    CHECK(matrix.rows == 3 && matrix.cols == 5 && matrix.stride == 5 && matrix.dtype == DType::kFloat32);
    CHECK(matrix.row<float>(2) - matrix.row<float>(0) == 10);
}

#ifdef LRENGINE_POISON
TEST(arena_poisons_what_it_hands_out) {
    for (const auto memory : {HostBackend::Memory::kShared, HostBackend::Memory::kOwn}) {
        HostBackend backend(memory);
        Arena arena(backend);
        const Arena::Mark start = arena.mark();
        const Matrix matrix = arena.matrix(2, 9, DType::kFloat32);
        matrix.row<float>(1)[8] = 1.0f;
        arena.reset_to(start);
        const Matrix again = arena.matrix(2, 9, DType::kFloat32);
        CHECK(again.data == matrix.data);
        CHECK(std::isnan(again.row<float>(0)[0]) && std::isnan(again.row<float>(1)[8]));
    }
}
#endif

TEST(arena_refuses_sizes_that_wrap) {
    HostBackend backend;
    Arena arena(backend);
    constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max() / 2;
    CHECK_ERROR(arena.matrix(kHuge, kHuge, DType::kFloat32), ErrorCode::kOutOfMemory, "scratch");
    CHECK_ERROR(arena.matrix(kHuge, 1, DType::kFloat32), ErrorCode::kOutOfMemory, "scratch");
    CHECK_ERROR(arena.matrix(-1, 2, DType::kFloat32), ErrorCode::kInternal, "negative");
    CHECK_ERROR(arena.array<double>(-1), ErrorCode::kOutOfMemory, "scratch");
}

TEST(arena_is_usable_after_the_backend_had_no_memory) {
    HostBackend backend;
    backend.limit = std::size_t{2} << 20;
    {
        Arena arena(backend);
        void* small = arena.allocate(1000);
        CHECK_ERROR(arena.allocate(std::size_t{64} << 20), ErrorCode::kOutOfMemory, "no memory");
        CHECK(small != nullptr && arena.allocate(1000) != nullptr);
    }
    CHECK(backend.blocks.empty());
}

TEST(weight_storage_gives_everything_back) {
    HostBackend backend;
    {
        WeightStorage storage(backend);
        CHECK(is_aligned(storage.allocate(100)));
        CHECK(storage.allocate(0) != nullptr);
        CHECK_EQUAL(storage.bytes(), 100u);
        CHECK_EQUAL(backend.blocks.size(), 2u);
    }
    CHECK(backend.blocks.empty());
}
