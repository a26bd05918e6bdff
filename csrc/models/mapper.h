// From the encoder's space to the LLM's embeddings.
#pragma once

#include <memory>

#include "models/config.h"
#include "models/layers.h"
#include "models/mixer.h"
#include "models/packing.h"

namespace lrengine {

class WeightLoader;

// Immutable; one object serves many threads.
class Mapper {
public:
    virtual ~Mapper() = default;

    // Rows that a source of `length` tokens becomes.
    virtual std::int64_t output_length(std::int64_t length) const = 0;
    // Fused tokens [M, D], packed as `sources`, to out [sum of output lengths, E], packed likewise.
    virtual void run(const Workspace& work, const FusedTokens& fused, const Packing& sources,
                     const Matrix& out) const = 0;
};

// Tensors "mapper.*". width D of the encoder to llm_width E.
std::unique_ptr<Mapper> load_mapper(const MapperConfig& config, std::int64_t width, std::int64_t llm_width,
                                    WeightLoader& loader);

}  // namespace lrengine
