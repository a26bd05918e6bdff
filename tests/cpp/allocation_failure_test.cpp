// Out of memory at any allocation: each one of opening and of a request fails in turn. The answer is an error (or none,
// where the code can do without), nothing leaks, and the engine goes on.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.h"

namespace {

std::atomic<bool> counting = false;
std::atomic<std::int64_t> live = 0, seen = 0, failing = -1;

void* aligned(std::size_t alignment, std::size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, alignment, bytes) == 0 ? memory : nullptr;
}

void* take(std::size_t bytes, std::size_t alignment) {
    if (counting && seen++ == failing) return nullptr;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = alignment > alignof(std::max_align_t) ? aligned(alignment, rounded) : std::malloc(bytes);
    if (memory != nullptr) ++live;
    return memory;
}

void* take_or_throw(std::size_t bytes, std::size_t alignment) {
    void* memory = take(bytes == 0 ? 1 : bytes, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

void give_back(void* memory) {
    if (memory == nullptr) return;
    --live;
    std::free(memory);
}

}  // namespace

// What backends take; freed with free(), so its leaks are seen by the sanitizers alone.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    return counting && seen++ == failing ? nullptr : aligned(alignment, bytes);
}

// The library's allocations come here too: a program's operator new is the one that its libraries use.
void* operator new(std::size_t bytes) { return take_or_throw(bytes, 1); }
void* operator new[](std::size_t bytes) { return take_or_throw(bytes, 1); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes == 0 ? 1 : bytes, 1); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes == 0 ? 1 : bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
    return take_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
    return take_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return take(bytes == 0 ? 1 : bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }

namespace {

using capi_models::ids;
using capi_models::Model;

// Runs `body` with allocation number `which` failing (-1: none); gives the number of allocations that it made.
template <typename Body>
std::int64_t with_failure(std::int64_t which, Body body) {
    seen = 0;
    failing = which;
    counting = true;
    body();
    counting = false;
    return seen;
}

// Fails every allocation of `body` once. `body` gives a status and leaves nothing behind.
void fail_each(const std::function<lrengine_status()>& body, const std::function<bool()>& still_works) {
    CHECK_EQUAL(body(), LRENGINE_OK);  // what is made once for all
    lrengine_status status = LRENGINE_OK;
    const std::int64_t count = with_failure(-1, [&] { status = body(); });
    CHECK(count > 20);
    std::int64_t refused = 0;
    for (std::int64_t which = 0; which < count; ++which) {
        const std::int64_t before = live;
        with_failure(which, [&] { status = body(); });
        if (live != before) harness::report(__FILE__, __LINE__, "leak at allocation " + std::to_string(which));
        if (status != LRENGINE_OK && status != LRENGINE_OUT_OF_MEMORY) {
            harness::report(__FILE__, __LINE__,
                            "allocation " + std::to_string(which) + ": " + lrengine_status_name(status) + ": " +
                                lrengine_last_error());
        }
        refused += status == LRENGINE_OUT_OF_MEMORY ? 1 : 0;
        if (which % 16 == 0) REQUIRE(still_works());
    }
    std::cout << count << " allocations, " << refused << " refused\n";
    CHECK(refused > count / 2);
    CHECK(still_works());
}

struct Request {
    explicit Request(const Model& model) : source(ids(5, 1)) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 1;
        REQUIRE(lrengine_open(model.path().c_str(), &options, &engine) == LRENGINE_OK);
        input.source.ids = source.data();
        input.source.id_count = source.size();
        generate_options.max_new_tokens = 4;
    }
    ~Request() { lrengine_close(engine); }

    lrengine_status generate(std::vector<std::int32_t>* tokens = nullptr) const {
        lrengine_generations* answers = nullptr;
        const lrengine_status status = lrengine_generate(engine, &input, 1, &generate_options, nullptr, &answers);
        lrengine_generation best = LRENGINE_GENERATION_INIT;
        if (status == LRENGINE_OK && tokens != nullptr && lrengine_generations_get(answers, 0, 0, &best) == LRENGINE_OK)
            tokens->assign(best.tokens, best.tokens + best.token_count);
        lrengine_generations_free(answers);
        return status;
    }

    std::vector<std::int32_t> source;
    lrengine_engine* engine = nullptr;
    lrengine_input input = LRENGINE_INPUT_INIT;
    lrengine_generate_options generate_options = LRENGINE_GENERATE_OPTIONS_INIT;
};

void fail_generation(Model::Kind kind, std::int64_t beams) {
    const Model model(kind);
    Request request(model);
    request.generate_options.num_beams = beams;
    std::vector<std::int32_t> expected;
    CHECK_EQUAL(request.generate(&expected), LRENGINE_OK);
    fail_each([&] { return request.generate(); },
              [&] {
                  std::vector<std::int32_t> tokens;
                  return request.generate(&tokens) == LRENGINE_OK && tokens == expected;
              });
}

TEST(generating_survives_every_failed_allocation) { fail_generation(Model::Kind::kSwcm, 1); }
TEST(beams_survive_every_failed_allocation) { fail_generation(Model::Kind::kSwcm, 3); }
TEST(fusion_survives_every_failed_allocation) { fail_generation(Model::Kind::kFusion, 1); }

TEST(scoring_and_encoding_survive_every_failed_allocation) {
    const Model model(Model::Kind::kSwcm);
    Request request(model);
    request.input.target = request.input.source;
    const auto both = [&] {
        lrengine_arrays* arrays = nullptr;
        lrengine_status status = lrengine_score(request.engine, &request.input, 1, nullptr, &arrays);
        lrengine_arrays_free(arrays);
        if (status != LRENGINE_OK) return status;
        arrays = nullptr;
        status = lrengine_encode(request.engine, &request.input, 1, LRENGINE_ENCODE_ALL, nullptr, &arrays);
        lrengine_arrays_free(arrays);
        return status;
    };
    fail_each(both, [&] { return both() == LRENGINE_OK; });
}

void fail_opening(Model::Kind kind) {
    const Model model(kind);
    const std::string path = model.path();
    const auto open = [&] {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 2;
        lrengine_engine* engine = nullptr;
        const lrengine_status status = lrengine_open(path.c_str(), &options, &engine);
        lrengine_close(engine);
        return status;
    };
    fail_each(open, [&] { return open() == LRENGINE_OK; });
}

TEST(opening_survives_every_failed_allocation) { fail_opening(Model::Kind::kSwcm); }
TEST(opening_a_fusion_model_survives_every_failed_allocation) { fail_opening(Model::Kind::kFusion); }

}  // namespace
