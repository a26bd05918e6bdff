// A multilingual encoder over packed sources: ids in, layer states out.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "models/config.h"
#include "models/packing.h"

namespace lrengine {

class WeightLoader;
class WeightStorage;

// What becomes of the states of an encoder's layers.
struct StateUse {
    std::int64_t kept = 1;  // in memory at a time: layer l's lies where that of layer l - kept was
    Matrix place = {};      // where that is, of the states' type, if one is kept; null: in the arena
    // Gets `at_once` consecutive layers' states, fewer at the end, as soon as the last of them is finished, in the
    // order of the layers. `kept` is as many, or L.
    std::int64_t at_once = 1;
    std::function<void(std::int64_t first, std::span<const Matrix> states)> read = {};
};

// Immutable; one object serves many threads.
class Encoder {
public:
    explicit Encoder(const EncoderConfig& config) : config_(config) {}
    virtual ~Encoder() = default;

    const EncoderConfig& config() const { return config_; }
    virtual const Weight& word_embeddings() const = 0;

    // Layer states [M, D] of all sources, packed as `rows` says (its lengths are those of `sources`). They are
    // transformers' `hidden_states[1:]`: with a final norm, the last state is after it. Ids and lengths have been
    // checked. Returns those that are kept, in the arena's current scope: by default the last one, all with kept = L.
    // Nothing is read where there are no rows.
    std::vector<Matrix> run(const Workspace& work, std::span<const TokenSpan> sources, const PackedRows& rows,
                            const StateUse& use = {}) const;

protected:
    // Position ids of one source, appended to `positions`. Pad tokens take the pad's own position where the first
    // position is after it, as transformers counts.
    void append_positions(TokenSpan source, std::vector<std::int32_t>& positions) const;

private:
    // A layer's state, [rows, D]: in the residual stream's type unless every state is the output of a norm.
    virtual Matrix make_state(const Workspace& work, std::int64_t rows) const;
    // Writes the embedding of the packed ids. positions: [M].
    virtual void embed(const Workspace& work, const std::int32_t* ids, const std::int32_t* positions,
                       const Matrix& out) const = 0;
    // One layer; out may be x.
    virtual void run_layer(const Workspace& work, std::int64_t layer, const Matrix& x, const Packing& sequences,
                           const Matrix& out) const = 0;
    // The final norm, in place; nothing by default.
    virtual void finish(const Workspace& work, const Matrix& last) const;

    EncoderConfig config_;
};

// The encoder under the tensor names "encoder.*".
std::unique_ptr<Encoder> load_encoder(const EncoderConfig& config, WeightLoader& loader, Backend& backend,
                                      WeightStorage& storage);

}  // namespace lrengine
