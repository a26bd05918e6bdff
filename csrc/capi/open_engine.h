// What an lrengine_engine holds: the engine, its tokenizers, and the strings that lrengine_get_info() hands out.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "capi/texts.h"
#include "runtime/engine.h"

namespace lrengine::capi {

// Immutable.
struct OpenEngine {
    OpenEngine(const std::filesystem::path& directory, const EngineOptions& options)
        : OpenEngine(directory, options, TextsBeingRead(directory, options.threads)) {}

    const std::vector<std::string>* labels() const {
        return engine->config().classifier ? &engine->config().classifier->labels : nullptr;
    }

    std::shared_ptr<Engine> engine;
    Texts texts;
    std::string device, dtype;
    Ids end_tokens;

private:
    OpenEngine(const std::filesystem::path& directory, const EngineOptions& options, TextsBeingRead reading)
        : engine(Engine::load(directory, options)),
          texts(reading, *engine),
          device(engine->device()),
          dtype(name_of(engine->dtype())),
          end_tokens(engine->config().tokens.eos.begin(), engine->config().tokens.eos.end()) {}
};

}  // namespace lrengine::capi

// Sessions share what is open, so that closing takes nothing from them.
struct lrengine_engine {
    std::shared_ptr<const lrengine::capi::OpenEngine> open;
};
