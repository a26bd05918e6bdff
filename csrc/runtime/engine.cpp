#include "runtime/engine.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "runtime/device.h"

namespace lrengine {

namespace {

std::string at(const char* argument, std::size_t index) {
    return std::string(argument) + "[" + std::to_string(index) + "]";
}

void check_ids(const Ids& ids, std::int64_t vocab, const char* argument, std::size_t index) {
    for (std::size_t position = 0; position < ids.size(); ++position) {
        if (ids[position] >= 0 && ids[position] < vocab) continue;
        fail(ErrorCode::kInvalidArgument, at(argument, index) + "[" + std::to_string(position) + "]: found id " +
                                              std::to_string(ids[position]) + ", expected 0 to " +
                                              std::to_string(vocab - 1));
    }
}

std::vector<std::span<const std::int32_t>> spans_of(const std::vector<Ids>& rows) { return {rows.begin(), rows.end()}; }

}  // namespace

Engine::Engine(std::shared_ptr<Backend> backend, std::unique_ptr<Model> model)
    : backend_(std::move(backend)), model_(std::move(model)) {}

std::shared_ptr<Engine> Engine::load(const std::filesystem::path& directory, const EngineOptions& options) {
    std::shared_ptr<Backend> backend = make_backend(options);
    auto model = load_model(directory, backend, options.dtype);
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

Ids Engine::forced_tokens(const Input& input) const {
    Ids forced;
    if (config().swcm) forced.push_back(static_cast<std::int32_t>(config().tokens.decoder_start.value()));
    forced.insert(forced.end(), input.prefix.begin(), input.prefix.end());
    return forced;
}

// Positions of the target side that are taken before the first generated token.
std::int64_t Engine::prefill_length(const Input& input) const {
    const auto prefix = static_cast<std::int64_t>(input.prefix.size());
    if (config().swcm) return 1 + prefix;
    const FusionConfig& fusion = config().fusion.value();
    const bool resampled = fusion.mapper.kind == MapperKind::kLatent;
    const std::int64_t mapped = resampled ? fusion.mapper.latents : static_cast<std::int64_t>(input.source.size());
    const std::int64_t bos = config().tokens.bos ? 1 : 0;
    return bos + mapped + 1 + static_cast<std::int64_t>(input.prompt.size()) + prefix;
}

void Engine::check_source(const Ids& source, std::size_t index) const {
    check_ids(source, encoder().vocab, "inputs", index);
    const std::int64_t limit = encoder().max_positions;
    if (limit > 0 && static_cast<std::int64_t>(source.size()) > limit) {
        fail(ErrorCode::kInvalidArgument, at("inputs", index) + ": found " + std::to_string(source.size()) +
                                              " tokens, expected at most the encoder's " + std::to_string(limit));
    }
}

void Engine::check_input(const Input& input, std::size_t index) const {
    check_source(input.source, index);
    if (!input.prompt.empty() && !config().fusion) {
        fail(ErrorCode::kInvalidArgument, "prompts: " + config().model_type + " models take none");
    }
    const std::int64_t vocab = generator().vocab_size();
    check_ids(input.prompt, vocab, "prompts", index);
    check_ids(input.prefix, vocab, "prefix", index);
    const std::int64_t limit = generator().max_length(), taken = prefill_length(input);
    if (limit > 0 && taken >= limit) {
        fail(ErrorCode::kInvalidArgument, at("inputs", index) + ": prefix, prompt and mapped source take " +
                                              std::to_string(taken) + " positions of the model's " +
                                              std::to_string(limit) + "; expected room for one token more");
    }
}

std::unique_ptr<Session> Engine::start(std::vector<Input> inputs, GenerationOptions options, StopHook stop) const {
    validate(options, generator().vocab_size());
    for (std::size_t index = 0; index < inputs.size(); ++index) check_input(inputs[index], index);
    return std::make_unique<Session>(shared_from_this(), std::move(inputs), std::move(options), std::move(stop));
}

std::vector<std::vector<float>> Engine::score(const std::vector<Input>& inputs, const std::vector<Ids>& targets) const {
    if (inputs.size() != targets.size()) {
        fail(ErrorCode::kInvalidArgument, "targets: found " + std::to_string(targets.size()) +
                                              ", expected one for each of " + std::to_string(inputs.size()) +
                                              " inputs");
    }
    std::vector<Ids> forced;
    std::vector<GenerationSource> sources;
    std::vector<std::span<const std::int32_t>> spans;
    std::vector<std::size_t> rows;
    forced.reserve(inputs.size());
    for (std::size_t index = 0; index < inputs.size(); ++index) {
        check_input(inputs[index], index);
        check_ids(targets[index], generator().vocab_size(), "targets", index);
        const std::int64_t limit = generator().max_length();
        const std::int64_t taken = prefill_length(inputs[index]) + static_cast<std::int64_t>(targets[index].size());
        if (limit > 0 && taken > limit) {
            fail(ErrorCode::kInvalidArgument, at("targets", index) + ": with what comes before, " +
                                                  std::to_string(taken) + " positions; expected at most the model's " +
                                                  std::to_string(limit));
        }
        if (targets[index].empty()) continue;
        forced.push_back(forced_tokens(inputs[index]));
        sources.push_back({inputs[index].source, inputs[index].prompt, forced.back()});
        spans.emplace_back(targets[index]);
        rows.push_back(index);
    }
    std::vector<std::vector<float>> log_probs(inputs.size());
    if (rows.empty()) return log_probs;
    auto scored = generator().score(sources, spans);
    for (std::size_t row = 0; row < rows.size(); ++row) log_probs[rows[row]] = std::move(scored[row]);
    return log_probs;
}

std::vector<std::vector<float>> Engine::classify(const std::vector<Ids>& sources) const {
    for (std::size_t index = 0; index < sources.size(); ++index) check_source(sources[index], index);
    if (sources.empty()) return {};
    return model_->classify(spans_of(sources));
}

std::vector<std::vector<float>> Engine::encode(const std::vector<Ids>& sources, EncodeOutput output) const {
    for (std::size_t index = 0; index < sources.size(); ++index) check_source(sources[index], index);
    if (sources.empty()) return {};
    return model_->encode(spans_of(sources), output);
}

}  // namespace lrengine
