// Out of memory at any allocation: each one of opening and of every kind of request fails in turn. The answer is an
// error (or none, where the code can do without), nothing leaks, and the engine goes on.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <limits>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "capi_models.h"
#include "harness.h"
#include "lrengine/lrengine.h"
#include "model_directories.h"

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

// What backends take; freed with free(), so its leaks are seen by the sanitizers alone. Visible, or the library would
// find another than its program's.
extern "C" __attribute__((visibility("default"))) void* aligned_alloc(std::size_t alignment,
                                                                      std::size_t bytes) noexcept {
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

// An engine that reads and writes text, and a request to it in text.
struct Request {
    explicit Request(Model::Kind kind) : model(kind) {
        model.add_tokenizer();
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 1;
        REQUIRE(lrengine_open(model.path().c_str(), &options, &engine) == LRENGINE_OK);
        input.source.text = "ab a";
        generate_options.max_new_tokens = 4;
        tokens.reserve(64);
    }
    ~Request() { lrengine_close(engine); }

    // Into memory that is there already: what fails is to be the library's.
    void keep(const lrengine_generations* answers) {
        lrengine_generation best = LRENGINE_GENERATION_INIT;
        if (lrengine_generations_get(answers, 0, 0, &best) != LRENGINE_OK) return;
        tokens.assign(best.tokens, best.tokens + best.token_count);
        cancelled = best.finish_reason == LRENGINE_FINISH_CANCELLED;
    }

    lrengine_status generate() {
        lrengine_generations* answers = nullptr;
        const lrengine_status status = lrengine_generate(engine, &input, 1, &generate_options, nullptr, &answers);
        if (status == LRENGINE_OK) keep(answers);
        lrengine_generations_free(answers);
        return status;
    }

    // A step that memory failed is tried again: the session goes on as if nothing had been, or says that it was cut.
    lrengine_status step_through() {
        lrengine_session* session = nullptr;
        lrengine_status status = lrengine_session_start(engine, &input, 1, &generate_options, &session);
        std::int32_t done = 0;
        bool failed = false;
        while (status == LRENGINE_OK && done == 0) {
            status = lrengine_session_step(session, &done);
            if (status == LRENGINE_OUT_OF_MEMORY && !failed) {
                failed = true;
                status = LRENGINE_OK;
            }
        }
        lrengine_generations* answers = nullptr;
        if (status == LRENGINE_OK) status = lrengine_session_results(session, &answers);
        if (status == LRENGINE_OK) keep(answers);
        lrengine_generations_free(answers);
        lrengine_session_free(session);
        if (!failed || status != LRENGINE_OK) return status;
        return cancelled || tokens == expected ? LRENGINE_OUT_OF_MEMORY : LRENGINE_INTERNAL;
    }

    Model model;
    lrengine_engine* engine = nullptr;
    lrengine_input input = LRENGINE_INPUT_INIT;
    lrengine_generate_options generate_options = LRENGINE_GENERATE_OPTIONS_INIT;
    std::vector<std::int32_t> tokens, expected;  // of the last answer; of every answer
    bool cancelled = false;                      // the last answer
};

// Frees what `call` made.
template <typename Call>
lrengine_status arrays_of(Call call) {
    lrengine_arrays* arrays = nullptr;
    const lrengine_status status = call(&arrays);
    lrengine_arrays_free(arrays);
    return status;
}

void fail_generation(Request& request, lrengine_status (Request::*call)() = &Request::generate) {
    CHECK_EQUAL((request.*call)(), LRENGINE_OK);
    request.expected = request.tokens;
    CHECK(!request.expected.empty());
    const auto again = [&] { return (request.*call)(); };
    fail_each(again, [&] { return again() == LRENGINE_OK && request.tokens == request.expected; });
}

TEST(generating_survives_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    fail_generation(request);
}

TEST(beams_survive_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    request.generate_options.num_beams = 3;
    fail_generation(request);
}

// Ids: the model's tokenizer is the source's, and the LLM has none.
TEST(fusion_survives_every_failed_allocation) {
    Request request(Model::Kind::kFusion);
    const std::vector<std::int32_t> source = ids(5, 1);
    request.input.source = {source.data(), source.size(), nullptr, LRENGINE_TERMINATED};
    fail_generation(request);
}

TEST(sampling_with_stop_strings_and_a_callback_survives_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    const char* const stop[] = {"ab", "zz"};
    request.input.target.text = "a";
    lrengine_generate_options& options = request.generate_options;
    options.do_sample = options.has_seed = 1;
    options.top_k = 9;
    options.no_repeat_ngram_size = 2;
    options.stop = stop;
    options.stop_count = 2;
    options.on_token = [](void*, const lrengine_token*) -> std::int32_t { return 0; };
    fail_generation(request);
}

TEST(sessions_survive_every_failed_allocation_and_go_on_after_it) {
    Request request(Model::Kind::kSwcm);
    fail_generation(request, &Request::step_through);
    request.generate_options.num_beams = 2;
    fail_generation(request, &Request::step_through);
}

TEST(scoring_survives_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    request.input.target.text = "ab";
    const auto score = [&] {
        return arrays_of(
            [&](auto arrays) { return lrengine_score(request.engine, &request.input, 1, nullptr, arrays); });
    };
    fail_each(score, [&] { return score() == LRENGINE_OK; });
}

void fail_encoding(Model::Kind kind, lrengine_encode_output output) {
    Request request(kind);
    const auto encode = [&] {
        return arrays_of(
            [&](auto arrays) { return lrengine_encode(request.engine, &request.input, 1, output, nullptr, arrays); });
    };
    fail_each(encode, [&] { return encode() == LRENGINE_OK; });
}

TEST(encoding_survives_every_failed_allocation) {
    fail_encoding(Model::Kind::kSwcm, LRENGINE_ENCODE_ALL);
    fail_encoding(Model::Kind::kFusion, LRENGINE_ENCODE_FUSED);
    fail_encoding(Model::Kind::kFusion, LRENGINE_ENCODE_WEIGHTS);
}

TEST(classifying_survives_every_failed_allocation) {
    Request request(Model::Kind::kClassifier);
    const auto classify = [&] {
        return arrays_of([&](auto arrays) {
            return lrengine_classify(request.engine, &request.input, 1, nullptr, 0, nullptr, arrays);
        });
    };
    fail_each(classify, [&] { return classify() == LRENGINE_OK; });
}

// With limits, which cut the rows into pieces.
TEST(classifying_by_likelihood_survives_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    lrengine_piece labels[] = {LRENGINE_PIECE_INIT, LRENGINE_PIECE_INIT};
    labels[0].text = "a";
    labels[1].text = "b b";
    lrengine_limits limits = LRENGINE_LIMITS_INIT;
    limits.deadline_microseconds = std::numeric_limits<std::int64_t>::max();
    const auto classify = [&] {
        return arrays_of([&](auto arrays) {
            return lrengine_classify(request.engine, &request.input, 1, labels, 2, &limits, arrays);
        });
    };
    fail_each(classify, [&] { return classify() == LRENGINE_OK; });
}

TEST(texts_and_ids_survive_every_failed_allocation) {
    Request request(Model::Kind::kSwcm);
    const auto there_and_back = [&] {
        lrengine_cancellation* cancellation = nullptr;
        lrengine_status status = lrengine_cancellation_create(&cancellation);
        lrengine_cancellation_free(cancellation);
        if (status != LRENGINE_OK) return status;
        constexpr std::string_view text = "ab a \xe4\xbb\x8a ba <s> abab aaaa bbbb";
        std::int32_t ids[64];
        char back[256];
        std::size_t count = 0, bytes = 0;
        status = lrengine_encode_text(request.engine, LRENGINE_SOURCE, text.data(), text.size(), 1, ids, 64, &count);
        if (status != LRENGINE_OK) return status;
        return lrengine_decode_ids(request.engine, LRENGINE_TARGET, ids, count, back, sizeof back, &bytes);
    };
    fail_each(there_and_back, [&] { return there_and_back() == LRENGINE_OK; });
}

// Every kind of directory, with its tokenizers; `dtype`: as what its matrices are opened. With one thread the
// tokenizers come after the weights, so that the n-th allocation is always the same one.
void fail_opening(model_directories::Kind kind, const char* dtype = nullptr, std::int32_t threads = 1) {
    const model_files::TemporaryDirectory directory;
    model_directories::write(directory, model_directories::make(kind, true));
    const std::string path = directory.path().string();
    const auto open = [&] {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.dtype = dtype;
        options.threads = threads;
        lrengine_engine* engine = nullptr;
        const lrengine_status status = lrengine_open(path.c_str(), &options, &engine);
        lrengine_close(engine);
        return status;
    };
    fail_each(open, [&] { return open() == LRENGINE_OK; });
}

TEST(opening_survives_every_failed_allocation) { fail_opening(model_directories::Kind::kSwcm); }
TEST(opening_a_fusion_model_survives_every_failed_allocation) { fail_opening(model_directories::Kind::kFusion); }
TEST(opening_with_tokenizers_read_beside_survives_failed_allocations) {
    for (const auto kind : {model_directories::Kind::kSwcm, model_directories::Kind::kFusion}) {
        fail_opening(kind, nullptr, 2);
    }
}
TEST(opening_a_classifier_survives_every_failed_allocation) {
    fail_opening(model_directories::Kind::kClassifier, "int8");
}

}  // namespace
