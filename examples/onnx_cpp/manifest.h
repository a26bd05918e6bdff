// lrengine_onnx.json: what a program needs to know to run an export (docs/ONNX.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "json.h"

struct Manifest {
    std::string directory;
    json::Value root;
    bool fused;  // layer_fusion: an LLM reads the mapped source; otherwise an SWCM
    std::int64_t vocab_size, source_vocab_size, layers, kv_heads, head_dim, pad, source_pad;
    std::int64_t max_source, max_target;  // 0: no limit
    std::string cache_type;
    std::vector<std::int64_t> end_tokens, start;  // start: what a target begins with

    // Throws std::runtime_error.
    static Manifest load(const std::string& directory);

    std::string step_graph() const { return fused ? "llm_with_past" : "decoder_with_past"; }
    std::string path(const std::string& graph) const;
    // The size of an input's axis; `otherwise` where the graph leaves it open.
    std::int64_t size(const std::string& graph, const std::string& input, std::size_t axis,
                      std::int64_t otherwise) const;
};
