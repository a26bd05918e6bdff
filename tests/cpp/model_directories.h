// Whole model directories as files in memory, to be damaged: of every kind, in one file or in shards, with tokenizers,
// and small enough for a test to open one again for each of their bytes.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "model_files.h"
#include "tiny_models.h"
#include "tokenizer_files.h"

namespace model_directories {

enum class Kind { kSwcm, kFusion, kClassifier };

using Files = std::map<std::string, std::string>;  // name in the directory -> content

inline std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Every other tensor in each of two shards, and the index.
inline void add_shards(const std::vector<model_files::Tensor>& tensors, Files& files) {
    const std::string names[] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    std::vector<model_files::Tensor> shards[2];
    nlohmann::json index;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        shards[i % 2].push_back(tensors[i]);
        index["weight_map"][tensors[i].name] = names[i % 2];
    }
    for (std::size_t i = 0; i < 2; ++i) files[names[i]] = model_files::safetensors_bytes(shards[i]);
    files["model.safetensors.index.json"] = index.dump();
}

inline Files make(Kind kind, bool sharded) {
    tiny::Directory directory(tiny::kSmallest);
    if (kind == Kind::kSwcm) tiny::write_swcm(directory);
    if (kind == Kind::kFusion) tiny::write_fusion(directory, 0, 2);
    if (kind == Kind::kClassifier) tiny::write_classifier(directory, tiny::transformer_mixer(directory));
    nlohmann::json config = nlohmann::json::parse(read(directory.path() / "config.json"));
    Files files;
    files["tokenizer.json"] = tokenizer_files::unigram().dump();
    if (kind == Kind::kFusion) {
        config["prompt_template"] = "a {prompt}b";
        files["llm/tokenizer.json"] = tokenizer_files::bpe().dump();
    }
    files["config.json"] = config.dump();
    if (sharded) {
        add_shards(directory.tensors(), files);
    } else {
        files["model.safetensors"] = model_files::safetensors_bytes(directory.tensors());
    }
    return files;
}

inline void write(const model_files::TemporaryDirectory& directory, const Files& files) {
    for (const auto& [name, content] : files) {
        std::filesystem::create_directories((directory.path() / name).parent_path());
        directory.write(name, content);
    }
}

}  // namespace model_directories
