// Options and inputs of requests through the C interface, on an engine that stays open.
#include <utility>

#include "capi_models.h"
#include "fuzz.h"
#include "lrengine/lrengine.h"

namespace {

using capi_models::Model;

struct Opened {
    explicit Opened(Model::Kind kind) : model(kind) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        options.threads = 1;
        if (lrengine_open(model.path().c_str(), &options, &engine) != LRENGINE_OK) std::abort();
    }
    ~Opened() { lrengine_close(engine); }

    Model model;
    lrengine_engine* engine = nullptr;
};

void expect(lrengine_status status) {
    if (status == LRENGINE_INTERNAL || status < LRENGINE_OK || status > LRENGINE_INTERNAL) std::abort();
    if (status != LRENGINE_OK && lrengine_last_error()[0] == '\0') std::abort();
}

struct Request {
    std::vector<std::int32_t> source, prompt, target;
};

std::vector<std::int32_t> some_ids(fuzz::Bytes& input) {
    std::vector<std::int32_t> ids(input.index(9));
    for (std::int32_t& id : ids) {
        id = input.take<std::int8_t>();
        if (id == 127) id = input.take<std::int32_t>();
    }
    return ids;
}

lrengine_generate_options some_options(fuzz::Bytes& input, std::vector<std::int32_t>& suppressed) {
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    const std::uint16_t set = input.take<std::uint16_t>();
    options.max_new_tokens = input.take<std::int8_t>() % 8;
    if (set & 1) options.min_new_tokens = input.take<std::int8_t>();
    if (set & 2) options.num_beams = input.take<std::int8_t>();
    if (set & 4) options.num_return_sequences = input.take<std::int8_t>();
    if (set & 8) options.length_penalty = input.take<double>();
    if (set & 16) options.early_stopping = input.take<std::int8_t>();
    if (set & 32) options.repetition_penalty = input.take<double>();
    if (set & 64) options.no_repeat_ngram_size = input.take<std::int64_t>();
    if (set & 128) options.do_sample = 1;
    if (set & 256) options.temperature = input.take<double>();
    if (set & 512) options.top_k = input.take<std::int64_t>();
    if (set & 1024) options.top_p = input.take<double>();
    if (set & 2048) options.seed = input.take<std::uint64_t>();
    options.has_seed = 1;
    if (set & 4096) suppressed = some_ids(input);
    options.suppress_tokens = suppressed.data();
    options.suppress_token_count = suppressed.size();
    return options;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Opened opened[] = {Opened(Model::Kind::kSwcm), Opened(Model::Kind::kFusion),
                                    Opened(Model::Kind::kClassifier)};
    fuzz::Bytes input(data, size);
    const lrengine_engine* engine = opened[input.index(3)].engine;
    std::vector<std::int32_t> suppressed;
    const lrengine_generate_options options = some_options(input, suppressed);
    std::vector<Request> requests(input.index(4));
    for (Request& request : requests) request = {some_ids(input), some_ids(input), some_ids(input)};
    std::vector<lrengine_input> inputs;
    for (const Request& request : requests) {
        lrengine_input one = LRENGINE_INPUT_INIT;
        one.source.ids = request.source.data();
        one.source.id_count = request.source.size();
        one.prompt.ids = request.prompt.data();
        one.prompt.id_count = request.prompt.size();
        one.target.ids = request.target.data();
        one.target.id_count = request.target.size();
        inputs.push_back(one);
    }
    lrengine_generations* answers = nullptr;
    expect(lrengine_generate(engine, inputs.data(), inputs.size(), &options, nullptr, &answers));
    lrengine_generations_free(answers);
    lrengine_arrays* arrays = nullptr;
    expect(lrengine_score(engine, inputs.data(), inputs.size(), nullptr, &arrays));
    lrengine_arrays_free(std::exchange(arrays, nullptr));
    expect(lrengine_classify(engine, inputs.data(), inputs.size(), nullptr, 0, nullptr, &arrays));
    lrengine_arrays_free(std::exchange(arrays, nullptr));
    expect(lrengine_encode(engine, inputs.data(), inputs.size(), input.take<std::uint8_t>() % 5, nullptr, &arrays));
    lrengine_arrays_free(arrays);
    return 0;
}
