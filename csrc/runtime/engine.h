// A loaded model on a device, and the requests it answers. Immutable after load(); any number of threads may call it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/interruption.h"
#include "decode/search.h"
#include "models/model.h"

namespace lrengine {

using Ids = std::vector<std::int32_t>;

struct EngineOptions {
    std::string device = "auto";                  // "auto", "cpu", "cuda", "cuda:INDEX"
    std::optional<DType> dtype;                   // what matrices are computed from; nullopt: as stored
    int threads = 0;                              // 0: as many as the process may use
    std::function<void(const std::string&)> log;  // told once a load what "auto" chose; may be empty
};

// One input. `prompt`: layer_fusion only. `prefix`: target tokens to start from.
struct Input {
    Ids source;
    Ids prompt;
    Ids prefix;
};

class Session;

class Engine : public std::enable_shared_from_this<Engine> {
public:
    // Throws Error(kModelFile | kUnsupported | kOutOfMemory | kDevice | kInvalidArgument). Weights that are computed
    // from where the file is mapped are not read yet: a thread searches them for NaN and Inf, and the first request
    // waits.
    static std::shared_ptr<Engine> load(const std::filesystem::path& directory, const EngineOptions& options);

    // Waits for that search. Throws Error(kModelFile) naming a tensor, here and in every request, if it found one; what
    // `interruption` throws.
    void check_weights(const Interruption& interruption = {}) const { search_.finish(interruption); }

    const ModelConfig& config() const { return model_->config(); }
    const EncoderConfig& encoder() const { return model_->encoder(); }
    std::string device() const { return backend_->device(); }
    DType dtype() const { return model_->weight_dtype(); }
    std::size_t weight_bytes() const { return model_->weight_bytes(); }
    const MemoryUse& memory_use() const { return backend_->memory_use(); }  // of the requests that are open
    std::int64_t kernel_launches() const { return backend_->launches(); }   // of decode steps so far; 0 on the CPU
    std::int64_t target_vocab_size() const;                                 // 0 for classifiers
    std::int64_t max_target_length() const;  // positions of a row on the target side; 0: no limit, or a classifier

    // Every method below throws Error(kInvalidArgument) naming the source when ids are outside the vocabulary or longer
    // than the model's positions, and leaves the engine usable.

    // Starts a request; nothing is computed before Session::step(). A row that reaches the model's longest length
    // before max_new_tokens ends there.
    // `interruption` is called between the layers that read the sources: what it throws ends the request and reaches
    // the caller of step().
    std::unique_ptr<Session> start(const std::vector<Input>& inputs, GenerationOptions options, StopHook stop,
                                   Interruption interruption = {}) const;

    // The three that follow call `interruption` between layers too; what it throws reaches the caller.

    // Log-probability of every target token, after the prefix (one vector an input).
    std::vector<std::vector<float>> score(const std::vector<Input>& inputs, const std::vector<Ids>& targets,
                                          const Interruption& interruption = {}) const;

    // Labels, given as ids, for every input: what scoring them would refuse, refused with the numbers of the input and
    // of the label, which score() of their pairs could not tell. Computes nothing.
    void check_labels(const std::vector<Input>& inputs, const std::vector<Ids>& labels) const;

    // Log-probabilities [B, labels] of a classifier.
    std::vector<std::vector<float>> classify(const std::vector<Ids>& sources,
                                             const Interruption& interruption = {}) const;

    // One packed array a source: kLast, kFused [S, D], kAll [L, S, D], kWeights [S, L].
    std::vector<std::vector<float>> encode(const std::vector<Ids>& sources, EncodeOutput output,
                                           const Interruption& interruption = {}) const;

private:
    Engine(std::shared_ptr<Backend> backend, std::unique_ptr<Model> model);

    const Generator& generator() const;
    std::vector<Ids> forced_tokens(const std::vector<Input>& inputs) const;

    std::shared_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    const WeightSearch& search_;  // the model's
};

// The state of one generate request: caches and search. One thread at a time, but for cancel(). Keeps `owner`, what the
// search borrows: the engine.
class Session {
public:
    // `search` is null for a request without inputs.
    Session(std::shared_ptr<const void> owner, std::unique_ptr<Search> search);

    bool done() const { return !search_ || search_->done(); }
    void step();
    void cancel();
    std::vector<std::vector<Hypothesis>> results() const;

private:
    std::shared_ptr<const void> owner_;
    std::unique_ptr<Search> search_;
};

}  // namespace lrengine
