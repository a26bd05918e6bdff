#include "capi_models.h"

#include <nlohmann/json.hpp>

#include "runtime/engine.h"
#include "tiny_models.h"

namespace capi_models {

struct Model::Files {
    tiny::Directory directory;
    std::shared_ptr<lrengine::Engine> engine;
};

Model::Model(Kind kind) : files_(std::make_unique<Files>()) {
    if (kind == Kind::kSwcm) tiny::write_swcm(files_->directory);
    if (kind == Kind::kFusion) tiny::write_fusion(files_->directory);
    if (kind == Kind::kClassifier) tiny::write_classifier(files_->directory, R"("mixer": {"type": "last"})");
    files_->engine =
        lrengine::Engine::load(files_->directory.path(), {.device = "cpu", .dtype = {}, .threads = 1, .log = {}});
}

Model::~Model() = default;

namespace {

using nlohmann::json;

void write_tokenizer(const std::filesystem::path& folder, std::int64_t vocabulary) {
    json pieces = json::array({json::array({"<s>", 0.0}), json::array({"<pad>", 0.0}), json::array({"</s>", 0.0})});
    const char* const names[] = {"<0xE4>", "<0xBB>", "<0x8A>",  "<0xC3>", "<0xA9>", "a",
                                 "b",      "ab",     "\u2581a", "<end",   ">"};
    for (const char* name : names) pieces.push_back(json::array({name, -1.0}));
    // What is left of the vocabulary says the same in other words.
    for (std::int64_t id = static_cast<std::int64_t>(pieces.size()); id < vocabulary; ++id) {
        pieces.push_back(json::array({std::string(1, static_cast<char>('c' + id % 20)) + std::to_string(id), -2.0}));
    }
    const auto special = [](int id, const char* content) {
        return json{{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
                    {"rstrip", false}, {"normalized", false}, {"special", true}};
    };
    const json decoders = {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                           {{"type", "ByteFallback"}},
                           {{"type", "Fuse"}}};
    const json file = {{"version", "1.0"},
                       {"added_tokens", {special(0, "<s>"), special(1, "<pad>"), special(2, "</s>")}},
                       {"normalizer", nullptr},
                       {"pre_tokenizer", nullptr},
                       {"post_processor", nullptr},
                       {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
                       {"model", {{"type", "Unigram"}, {"unk_id", 1}, {"byte_fallback", true}, {"vocab", pieces}}}};
    std::ofstream(folder / "tokenizer.json") << file.dump();
}

}  // namespace

void Model::add_tokenizer() { write_tokenizer(files_->directory.path(), tiny::kVocab); }

void Model::add_prompt_template(const std::string& text) {
    const std::filesystem::path folder = files_->directory.path();
    std::filesystem::create_directory(folder / "llm");
    write_tokenizer(folder / "llm", tiny::kLlmVocab);
    json config = json::parse(std::ifstream(folder / "config.json"));
    config["prompt_template"] = text;
    std::filesystem::remove(folder / "config.json");
    std::ofstream(folder / "config.json") << config.dump();
}

std::string Model::path() const { return files_->directory.path().string(); }

Reference Model::greedy(const std::vector<std::int32_t>& source, std::int64_t tokens,
                        const std::vector<std::int32_t>& prefix) const {
    lrengine::GenerationOptions options;
    options.max_new_tokens = tokens;
    const auto session = files_->engine->start({{source, {}, prefix}}, options, {});
    while (!session->done()) session->step();
    const lrengine::Hypothesis answer = session->results()[0][0];
    return {answer.tokens, answer.token_log_probs};
}

std::vector<float> Model::score(const std::vector<std::int32_t>& source,
                                const std::vector<std::int32_t>& target) const {
    return files_->engine->score({{source, {}, {}}}, {target})[0];
}

std::vector<float> Model::classify(const std::vector<std::int32_t>& source) const {
    return files_->engine->classify({source})[0];
}

std::vector<float> Model::encode(const std::vector<std::int32_t>& source) const {
    return files_->engine->encode({source}, lrengine::EncodeOutput::kLast)[0];
}

bool are_the_engines_defaults(const lrengine_generate_options& options) {
    const lrengine::GenerationOptions engine;
    return options.max_new_tokens == engine.max_new_tokens && options.min_new_tokens == engine.min_new_tokens &&
           options.num_beams == engine.num_beams && options.num_return_sequences == engine.num_return_sequences &&
           options.length_penalty == engine.length_penalty &&
           options.early_stopping == static_cast<lrengine_early_stopping>(engine.early_stopping) &&
           options.repetition_penalty == engine.repetition_penalty &&
           options.no_repeat_ngram_size == engine.no_repeat_ngram_size &&
           (options.do_sample != 0) == engine.do_sample && options.temperature == engine.temperature &&
           options.top_k == engine.top_k && options.top_p == engine.top_p &&
           (options.has_seed != 0) == engine.seed.has_value() &&
           options.suppress_token_count == engine.suppress_tokens.size();
}

std::vector<std::int32_t> ids(std::size_t length, unsigned seed) { return tiny::some_ids(length, seed); }

}  // namespace capi_models
