// Work that ends between two layers: what an interruption throws, cancel(), and the limits of the C interface.
#include <algorithm>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "capi_testing.h"
#include "harness.h"
#include "runtime/engine.h"
#include "tiny_models.h"

using namespace lrengine;
using tiny::Ids;

namespace {

struct Ended {
    int call;
};

// Counts its calls, and throws in one of them.
class Counter {
public:
    explicit Counter(int last = -1) : last_(last) {}

    Interruption hook() {
        return [this] {
            if (++calls == last_) throw Ended{calls};
        };
    }
    int calls = 0;

private:
    int last_;
};

using Call = std::function<void(const Interruption&)>;

std::shared_ptr<Engine> open(const tiny::Directory& directory) {
    auto engine = Engine::load(directory.path(), {.device = "cpu", .dtype = {}, .threads = 1, .log = {}});
    engine->check_weights();  // the first request would wait for it, between more calls than are counted here
    return engine;
}

// Every call but the last of `layers` ends the work: at each of them in turn it ends there, and goes to its end after.
void check_ends_before_each_layer(const Call& call, int layers) {
    Counter whole;
    call(whole.hook());
    CHECK_EQUAL(whole.calls, layers);
    for (int last = 1; last <= layers; ++last) {
        Counter counter(last);
        int ended = 0;
        try {
            call(counter.hook());
        } catch (const Ended& end) {
            ended = end.call;
        }
        CHECK_EQUAL(ended, last);
        CHECK_EQUAL(counter.calls, last);
    }
    call({});
}

const Ids kSource = tiny::some_ids(9, 1), kTarget = tiny::some_ids(4, 2, tiny::kLlmVocab);

void first_step(const Engine& engine, const Interruption& interruption, std::int64_t beams = 1) {
    GenerationOptions options;
    options.max_new_tokens = 4;
    options.num_beams = beams;
    const auto session = engine.start({{kSource, {}, {}}}, options, {}, interruption);
    try {
        session->step();
    } catch (...) {
        CHECK(session->done());
        const Hypothesis answer = session->results()[0][0];
        CHECK(answer.tokens.empty() && answer.token_log_probs.empty());
        CHECK(answer.finish_reason == FinishReason::kCancelled);
        throw;
    }
    CHECK(!session->results()[0][0].token_log_probs.empty());
}

constexpr int kEncoder = static_cast<int>(tiny::kLayers);

}  // namespace

TEST(a_generating_model_can_be_ended_before_every_layer) {
    tiny::Directory swcm_directory, fusion_directory;
    tiny::write_swcm(swcm_directory);
    tiny::write_fusion(fusion_directory);
    const int swcm_layers = kEncoder + kEncoder + kEncoder / 2, fusion_layers = kEncoder + 2;
    for (const auto& [engine, layers] :
         {std::pair(open(swcm_directory), swcm_layers), std::pair(open(fusion_directory), fusion_layers)}) {
        for (const std::int64_t beams : {1, 3}) {
            check_ends_before_each_layer([&, e = engine](const auto& hook) { first_step(*e, hook, beams); }, layers);
        }
        const int with_logits = layers + 1;  // the rows of logits are a piece of their own
        check_ends_before_each_layer([e = engine](const auto& hook) { e->score({{kSource, {}, {}}}, {kTarget}, hook); },
                                     with_logits);
        for (const EncodeOutput output : {EncodeOutput::kLast, EncodeOutput::kFused, EncodeOutput::kAll}) {
            check_ends_before_each_layer([&, e = engine](const auto& hook) { e->encode({kSource}, output, hook); },
                                         kEncoder);
        }
    }
}

TEST(a_classifier_can_be_ended_before_every_layer) {
    tiny::Directory directory;
    tiny::write_classifier(directory, R"("mixer": {"type": "last"})");
    const auto engine = open(directory);
    check_ends_before_each_layer([&](const auto& hook) { engine->classify({kSource}, hook); }, kEncoder);
}

TEST(steps_after_the_first_are_not_pieces) {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    const auto engine = open(directory);
    Counter counter;
    GenerationOptions options;
    options.max_new_tokens = 4;
    options.suppress_tokens = {2};
    const auto session = engine->start({{kSource, {}, {}}}, options, {}, counter.hook());
    session->step();
    const int calls = counter.calls;
    while (!session->done()) session->step();
    CHECK_EQUAL(counter.calls, calls);
}

TEST(a_session_that_is_cancelled_while_it_reads_ends_before_the_next_layer) {
    tiny::Directory directory;
    tiny::write_fusion(directory);
    const auto engine = open(directory);
    for (const std::int64_t beams : {1, 3}) {
        GenerationOptions options;
        options.num_beams = beams;
        int calls = 0;
        std::unique_ptr<Session> session;
        session = engine->start({{kSource, {}, {}}}, options, {}, [&] {
            if (++calls == 2) session->cancel();
        });
        session->step();
        CHECK_EQUAL(calls, 2);
        CHECK(session->done());
        CHECK(session->results()[0][0].tokens.empty());
        CHECK(session->results()[0][0].finish_reason == FinishReason::kCancelled);
    }
}

namespace {

using File = capi_models::Model;
using capi_testing::Opened;

// Calls until one of them was cancelled by another thread that had seen it compute: a machine that is busy elsewhere
// may let a call finish before.
lrengine_status cancelled_while_computing(const lrengine_engine* engine,
                                          const std::function<lrengine_status(const lrengine_limits*)>& call) {
    lrengine_status status = LRENGINE_OK;
    for (int tries = 0; tries < 20 && status == LRENGINE_OK; ++tries) {
        lrengine_cancellation* cancellation = nullptr;
        REQUIRE(lrengine_cancellation_create(&cancellation) == LRENGINE_OK);
        lrengine_limits limits = LRENGINE_LIMITS_INIT;
        limits.cancellation = cancellation;
        std::atomic<bool> over = false;
        std::thread other([&] {
            lrengine_memory memory = LRENGINE_MEMORY_INIT;
            while (!over && memory.request_bytes == 0) lrengine_get_memory(engine, &memory);
            lrengine_cancellation_request(cancellation);
        });
        status = call(&limits);
        over = true;
        other.join();
        lrengine_cancellation_free(cancellation);
    }
    return status;
}

}  // namespace

// A source without an end to its positions, which is read in one piece.
TEST(a_cancellation_ends_the_reading_of_a_long_source) {
    const File model(File::Kind::kFusion);
    const Opened opened(model);
    const Ids values = tiny::some_ids(12'000, 3);
    const lrengine_input input = capi_testing::source(values);
    lrengine_arrays* arrays = nullptr;
    CHECK_EQUAL(cancelled_while_computing(opened.engine,
                                          [&](const lrengine_limits* limits) {
                                              const lrengine_status status = lrengine_encode(
                                                  opened.engine, &input, 1, LRENGINE_ENCODE_LAST, limits, &arrays);
                                              if (status == LRENGINE_OK) lrengine_arrays_free(arrays);
                                              return status;
                                          }),
                LRENGINE_CANCELLED);
}

TEST(a_cancellation_ends_the_reading_of_many_sources) {
    const File model(File::Kind::kSwcm);
    const Opened opened(model);
    const Ids values = tiny::some_ids(30, 3);
    const std::vector<lrengine_input> inputs(4'000, capi_testing::source(values));
    const lrengine_generate_options options = capi_testing::most(1);  // one step: it is the reading that is ended
    CHECK_EQUAL(cancelled_while_computing(
                    opened.engine,
                    [&](const lrengine_limits* limits) {
                        lrengine_generations* answers = nullptr;
                        const lrengine_status status =
                            lrengine_generate(opened.engine, inputs.data(), inputs.size(), &options, limits, &answers);
                        CHECK_EQUAL(capi_testing::get(answers, 0, 0).token_count, status == LRENGINE_OK ? 1u : 0u);
                        lrengine_generations_free(answers);
                        return status;
                    }),
                LRENGINE_CANCELLED);
}
