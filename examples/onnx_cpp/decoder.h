// One source and its target: a row of a decoder graph. A static export's other rows run along, empty.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "manifest.h"
#include "ort.h"

class Decoder {
public:
    // Reads the source: an SWCM's encoder, or the graph that maps it to the LLM's embeddings. Room for `new_tokens`
    // after `fed` tokens (for layer_fusion: behind the mapped source).
    Decoder(const Manifest& manifest, const std::vector<std::int64_t>& source, std::int64_t fed,
            std::int64_t new_tokens);

    // Feeds a token; logits [vocab_size] of what follows it, until the next call.
    const float* step(std::int64_t token);

    // layer_fusion: lets the LLM read the mapped source, in one run of the graph that takes several tokens. Logits of
    // what follows it; null for other models.
    const float* read_mapped();
    // Tokens that step() still takes.
    std::int64_t room() const { return room_ - static_cast<std::int64_t>(row_.size()); }

private:
    void read_source(const std::vector<std::int64_t>& source);
    void add_cache(ort::Tensors& inputs, ort::Tensors& outputs, const std::vector<std::int64_t>& sizes);
    ort::Value slots(std::vector<char>& buffer, std::int64_t first, const std::vector<std::int64_t>& sizes);

    const Manifest& manifest_;
    ort::Session session_;
    std::int64_t rows_, past_, room_ = 0, slots_ = 0, slot_bytes_ = 0;
    std::int64_t bound_ = 0, next_ = 1;  // slots that the graphs see; the first that is free
    std::vector<std::int64_t> mask_;
    ort::Tensors source_;  // SWCM: keys and values of the source, as the encoder wrote them
    std::vector<float> prefix_;
    std::int64_t mapped_ = 0, width_ = 0;
    std::vector<std::vector<char>> keys_, values_;  // a layer's cache: slots_ slots of one token
    std::vector<std::int64_t> row_;                 // the slot of each of the row's tokens
    std::vector<float> logits_;
};
