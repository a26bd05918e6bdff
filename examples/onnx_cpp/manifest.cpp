#include "manifest.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

Manifest Manifest::load(const std::string& directory) {
    const std::string path = directory + "/lrengine_onnx.json";
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot be read; `lrengine export onnx DIR OUT` writes it");
    std::stringstream text;
    text << file.rdbuf();
    const std::string source = text.str();

    Manifest manifest;
    manifest.directory = directory;
    manifest.root = json::Reader(source).read();
    const json::Value &root = manifest.root, &ids = root["special_ids"], &cache = root["cache"];
    if (root["format_version"].integer("format_version") != 1) throw std::runtime_error("another format_version");
    if (cache.is_null()) throw std::runtime_error(root["model_type"].text + " models do not generate");
    manifest.fused = root["model_type"].text == "layer_fusion";
    manifest.vocab_size = root["vocab_size"].integer("vocab_size");
    manifest.source_vocab_size = root["source_vocab_size"].integer("source_vocab_size");
    manifest.layers = cache["layers"].integer("layers");
    manifest.kv_heads = cache["kv_heads"].integer("kv_heads");
    manifest.head_dim = cache["head_dim"].integer("head_dim");
    manifest.cache_type = cache["type"].text;
    manifest.pad = ids["pad"].is_number() ? ids["pad"].integer("pad") : 0;
    manifest.source_pad = ids["source_pad"].integer("source_pad");
    manifest.max_source = root["max_source"].is_number() ? root["max_source"].integer("max_source") : 0;
    manifest.max_target = root["max_target"].is_number() ? root["max_target"].integer("max_target") : 0;
    for (const json::Value& id : ids["eos"].array) manifest.end_tokens.push_back(id.integer("eos"));
    if (!manifest.fused) manifest.start.push_back(ids["decoder_start"].integer("decoder_start"));
    return manifest;
}

std::string Manifest::path(const std::string& graph) const {
    const std::string& file = root["graphs"][graph]["file"].text;
    if (file.empty()) throw std::runtime_error("the manifest lists no graph " + graph);
    return directory + "/" + file;
}

std::int64_t Manifest::size(const std::string& graph, const std::string& input, std::size_t axis,
                            std::int64_t otherwise) const {
    for (const json::Value& port : root["graphs"][graph]["inputs"].array) {
        if (port["name"].text != input) continue;
        const std::vector<json::Value>& shape = port["shape"].array;
        return axis < shape.size() && shape[axis].is_number() ? shape[axis].integer("shape") : otherwise;
    }
    throw std::runtime_error("graph " + graph + " has no input " + input);
}
