// A loaded model: weights and the ways to run it. Immutable after load_model(); one object serves many threads.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/interruption.h"
#include "core/weight_search.h"
#include "models/config.h"
#include "models/generator.h"
#include "ops/backend.h"

namespace lrengine {

enum class EncodeOutput { kLast, kFused, kAll, kWeights };

class Model {
public:
    virtual ~Model() = default;

    virtual const ModelConfig& config() const = 0;
    virtual const EncoderConfig& encoder() const = 0;
    virtual std::size_t weight_bytes() const = 0;
    virtual DType weight_dtype() const = 0;
    // The search for NaN and Inf in weights that loading did not read, filled but not begun.
    virtual WeightSearch& weight_search() = 0;

    // classify() and encode() call `interruption` before every layer; what it throws reaches the caller.

    // Null for classifiers.
    virtual const Generator* generator() const { return nullptr; }

    // Log-probabilities [B, labels]; classifiers only (Error(kInvalidArgument) otherwise).
    virtual std::vector<std::vector<float>> classify(std::span<const std::span<const std::int32_t>> sources,
                                                     const Interruption& interruption = {}) const = 0;

    // Packed result in host memory, one vector a source: kLast and kFused [S, D], kAll [L, S, D], kWeights [S, L].
    // SWCM has no mixer: kFused is kLast, kWeights an error.
    virtual std::vector<std::vector<float>> encode(std::span<const std::span<const std::int32_t>> sources,
                                                   EncodeOutput output,
                                                   const Interruption& interruption = {}) const = 0;
};

// Opens a model directory. dtype: what matrices are computed from; nullopt keeps the stored type.
// Throws Error(kModelFile | kUnsupported | kOutOfMemory).
std::unique_ptr<Model> load_model(const std::filesystem::path& directory, std::shared_ptr<Backend> backend,
                                  std::optional<DType> dtype);

}  // namespace lrengine
