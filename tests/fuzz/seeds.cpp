// Writes the first inputs of every fuzzer: `fuzz_seeds tests/fuzz/corpus`. tokenizer.json:
// tests/fuzz/tokenizer_seeds.py.
#include <iostream>

#include "fuzz.h"
#include "tiny_models.h"

namespace {

void write(const std::filesystem::path& path, std::string_view content) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
}

std::string read(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_configs(const std::filesystem::path& folder) {
    tiny::Directory swcm, fusion, classifier;
    tiny::write_swcm(swcm, {.norm_style = "published", .sharing = "tied", .tied_output = false});
    tiny::write_fusion(fusion);
    tiny::write_classifier(classifier, tiny::transformer_mixer(classifier));
    write(folder / "swcm", read(swcm.path() / "config.json"));
    write(folder / "fusion", read(fusion.path() / "config.json"));
    write(folder / "classifier", read(classifier.path() / "config.json"));
}

void write_safetensors(const std::filesystem::path& folder) {
    using namespace model_files;
    write(folder / "types", safetensors_bytes({float_tensor("w", {2, 3}, {1, 2, 3, 4, 5, 6}),
                                               {"h", "BF16", {2}, bytes_of<std::uint16_t>({0x3f80, 0x4000})},
                                               {"q", "I8", {2, 2}, std::string("\1\2\3\4")}}));
    const std::string header =
        R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
    write(folder / "metadata", safetensors_bytes(header, std::string(4, '\0')));
    write(folder / "no_tensors", safetensors_bytes("{}", ""));
}

void write_index(const std::filesystem::path& folder) {
    write(folder / "two_shards",
          R"({"metadata": {"total_size": 16}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})");
    write(folder / "outside", R"({"weight_map": {"a": "../a.safetensors", "b": "/b.safetensors"}})");
}

void write_records(const std::filesystem::path& open, const std::filesystem::path& request) {
    write(open / "unchanged", "");
    write(open / "a_byte", std::string("\x00\x20\x00\x00\x00\x39", 6));
    write(open / "header_text", std::string("\x21\x10\x00\x00\x00\x04-999", 10));
    write(open / "cut", std::string("\x31\x00\x10\x00\x00", 5));
    for (char model = 0; model < 3; ++model) {
        std::string plain(64, '\4');
        plain[0] = model;
        plain[1] = plain[2] = plain[3] = 0;
        write(request / ("plain_" + std::to_string(model)), plain);
        plain[4] = '\x86';  // beams, answers, sampling
        write(request / ("sampling_" + std::to_string(model)), plain);
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " FOLDER\n";
        return 2;
    }
    const std::filesystem::path folder = argv[1];
    write_configs(folder / "config");
    write_safetensors(folder / "safetensors");
    write_index(folder / "index");
    write_records(folder / "open", folder / "request");
    return 0;
}
