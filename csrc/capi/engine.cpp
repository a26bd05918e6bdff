#include <algorithm>
#include <filesystem>

#include "capi/limits.h"
#include "capi/open_engine.h"
#include "capi/status.h"
#include "capi/structs.h"

using namespace lrengine;

namespace {

EngineOptions engine_options(const lrengine_engine_options& given) {
    EngineOptions options{.device = "auto", .dtype = {}, .threads = given.threads, .log = {}};
    if (given.device != nullptr) options.device = given.device;
    if (given.dtype != nullptr) options.dtype = dtype_from_name(given.dtype);
    if (given.log != nullptr) {
        options.log = [hook = given.log, user = given.log_user](const std::string& text) { hook(user, text.c_str()); };
    }
    return options;
}

// Copies what fits; the caller learns how much there is.
template <typename T>
void copy_out(const T* values, std::size_t found, T* out, std::size_t capacity, std::size_t* count) {
    capi::require_pointer(count, "count");
    if (capacity > 0) capi::require_pointer(out, "output");
    if (const std::size_t fitting = std::min(found, capacity); fitting > 0) std::copy_n(values, fitting, out);
    *count = found;
}

}  // namespace

extern "C" {

lrengine_status lrengine_open(const char* directory, const lrengine_engine_options* options, lrengine_engine** engine) {
    return capi::guard([&] {
        capi::require_pointer(directory, "directory");
        capi::require_pointer(engine, "engine");
        const lrengine_engine_options defaults = LRENGINE_ENGINE_OPTIONS_INIT;
        const EngineOptions typed = engine_options(capi::from_caller(options, defaults, "options"));
        auto open = std::make_shared<const capi::OpenEngine>(directory, typed);
        *engine = new lrengine_engine{std::move(open)};
    });
}

void lrengine_close(lrengine_engine* engine) { delete engine; }

lrengine_status lrengine_check_weights(const lrengine_engine* engine, const lrengine_limits* limits) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        const capi::Limits ends(limits);
        engine->open->engine->check_weights(ends.interruption());
    });
}

lrengine_status lrengine_get_info(const lrengine_engine* engine, lrengine_engine_info* info) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        const capi::OpenEngine& open = *engine->open;
        const EncoderConfig& encoder = open.engine->encoder();
        lrengine_engine_info out{};
        out.device = open.device.c_str();
        out.dtype = open.dtype.c_str();
        out.model_type = open.engine->config().model_type.c_str();
        out.source_vocabulary = encoder.vocab;
        out.max_source_length = encoder.max_positions;
        out.target_vocabulary = open.engine->target_vocab_size();
        out.max_target_length = open.engine->max_target_length();
        out.encoder_layers = encoder.layers;
        out.encoder_width = encoder.width;
        out.labels = open.labels() == nullptr ? 0 : open.labels()->size();
        out.end_tokens = open.end_tokens.size();
        out.end_token_ids = open.end_tokens.data();
        out.reads_source_text = open.texts.reads_source() ? 1 : 0;
        out.writes_text = open.texts.writes() ? 1 : 0;
        capi::to_caller(info, out, "info");
    });
}

const char* lrengine_label(const lrengine_engine* engine, size_t index) {
    const std::vector<std::string>* labels = engine == nullptr ? nullptr : engine->open->labels();
    return labels == nullptr || index >= labels->size() ? nullptr : (*labels)[index].c_str();
}

lrengine_status lrengine_get_memory(const lrengine_engine* engine, lrengine_memory* memory) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        lrengine_memory out{};
        out.weight_bytes = engine->open->engine->weight_bytes();
        out.request_bytes = engine->open->engine->memory_use().now();
        out.peak_request_bytes = engine->open->engine->memory_use().peak();
        capi::to_caller(memory, out, "memory");
    });
}

lrengine_status lrengine_encode_text(const lrengine_engine* engine, lrengine_side side, const char* text,
                                     size_t text_bytes, int32_t special_tokens, int32_t* ids, size_t capacity,
                                     size_t* count) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        capi::require_pointer(text, "text");
        const std::string_view given =
            text_bytes == LRENGINE_TERMINATED ? std::string_view(text) : std::string_view(text, text_bytes);
        const Ids found = engine->open->texts.of(side).encode(given, special_tokens != 0);
        copy_out(found.data(), found.size(), ids, capacity, count);
    });
}

lrengine_status lrengine_decode_ids(const lrengine_engine* engine, lrengine_side side, const int32_t* ids, size_t count,
                                    char* text, size_t capacity, size_t* bytes) {
    return capi::guard([&] {
        capi::require_pointer(engine, "engine");
        if (count > 0) capi::require_pointer(ids, "ids");
        const std::string found = engine->open->texts.of(side).decode({ids, count});
        copy_out(found.data(), found.size(), text, capacity, bytes);
    });
}

}  // extern "C"
