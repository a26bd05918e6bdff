#include "runtime/engine.h"

#include <string>
#include <utility>

#include "core/error.h"
#include "decode/random.h"
#include "models/request.h"
#include "runtime/device.h"

namespace lrengine {

namespace {

std::vector<std::span<const std::int32_t>> spans_of(const std::vector<Ids>& rows) { return {rows.begin(), rows.end()}; }

std::vector<GenerationSource> sources_of(const std::vector<Input>& inputs, const std::vector<Ids>& forced) {
    std::vector<GenerationSource> sources;
    for (std::size_t i = 0; i < inputs.size(); ++i) sources.push_back({inputs[i].source, inputs[i].prompt, forced[i]});
    return sources;
}

}  // namespace

Engine::Engine(std::shared_ptr<Backend> backend, std::unique_ptr<Model> model)
    : backend_(std::move(backend)), model_(std::move(model)), search_(model_->weight_search()) {}

std::shared_ptr<Engine> Engine::load(const std::filesystem::path& directory, const EngineOptions& options) {
    std::shared_ptr<Backend> backend = make_backend(options);
    auto model = load_model(directory, backend, options.dtype);
    model->weight_search().start();
    return std::shared_ptr<Engine>(new Engine(std::move(backend), std::move(model)));
}

const Generator& Engine::generator() const {
    const Generator* generator = model_->generator();
    if (generator == nullptr) {
        fail(ErrorCode::kInvalidArgument, config().model_type + " models classify and encode; they do not generate");
    }
    return *generator;
}

std::int64_t Engine::target_vocab_size() const {
    const Generator* generator = model_->generator();
    return generator == nullptr ? 0 : generator->vocab_size();
}

std::int64_t Engine::max_target_length() const {
    const Generator* generator = model_->generator();
    return generator == nullptr ? 0 : generator->max_length();
}

std::vector<Ids> Engine::forced_tokens(const std::vector<Input>& inputs) const {
    std::vector<Ids> forced(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (config().swcm) forced[i].push_back(static_cast<std::int32_t>(config().tokens.decoder_start.value()));
        forced[i].insert(forced[i].end(), inputs[i].prefix.begin(), inputs[i].prefix.end());
    }
    return forced;
}

std::unique_ptr<Session> Engine::start(const std::vector<Input>& inputs, GenerationOptions options, StopHook stop,
                                       Interruption interruption) const {
    validate(options, generator().vocab_size());
    if (inputs.empty()) return std::make_unique<Session>(shared_from_this(), nullptr);
    if (options.do_sample && !options.seed) options.seed = random_seed();
    const std::vector<Ids> forced = forced_tokens(inputs);
    const auto sources = sources_of(inputs, forced);
    std::vector<std::int32_t> end_tokens(config().tokens.eos.begin(), config().tokens.eos.end());
    auto search = start_search(
        generator(), {sources, std::move(options), std::move(end_tokens), std::move(stop), std::move(interruption),
                      [this](const Interruption& between) { check_weights(between); }});
    return std::make_unique<Session>(shared_from_this(), std::move(search));
}

std::vector<std::vector<float>> Engine::score(const std::vector<Input>& inputs, const std::vector<Ids>& targets,
                                              const Interruption& interruption) const {
    const std::vector<Ids> forced = forced_tokens(inputs);
    const auto sources = sources_of(inputs, forced);
    generator().check(sources, spans_of(targets));  // a wrong request is told so without waiting
    check_weights(interruption);
    return generator().score(sources, spans_of(targets), interruption);
}

void Engine::check_labels(const std::vector<Input>& inputs, const std::vector<Ids>& labels) const {
    const std::vector<Ids> forced = forced_tokens(inputs);
    const auto sources = sources_of(inputs, forced);
    const auto check = [&](const Ids& target) {
        generator().check(sources, std::vector<std::span<const std::int32_t>>(sources.size(), target));
    };
    check({});
    for (std::size_t i = 0; i < labels.size(); ++i) {
        try {
            check(labels[i]);
        } catch (const Error& error) {
            fail(error.code(), "labels[" + std::to_string(i) + "]: " + error.what());
        }
    }
}

std::vector<std::vector<float>> Engine::classify(const std::vector<Ids>& sources,
                                                 const Interruption& interruption) const {
    if (sources.empty()) return {};
    check_sources(spans_of(sources), encoder());
    check_weights(interruption);
    return model_->classify(spans_of(sources), interruption);
}

std::vector<std::vector<float>> Engine::encode(const std::vector<Ids>& sources, EncodeOutput output,
                                               const Interruption& interruption) const {
    if (sources.empty()) return {};
    check_sources(spans_of(sources), encoder());
    check_weights(interruption);
    return model_->encode(spans_of(sources), output, interruption);
}

}  // namespace lrengine
