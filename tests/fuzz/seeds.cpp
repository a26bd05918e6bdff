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

// What fuzz::Bytes takes off again.
class Input {
public:
    template <typename T>
    Input& put(T value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    Input& byte(int value) { return put(static_cast<std::uint8_t>(value)); }
    Input& text(std::string_view text) {
        byte(static_cast<int>(text.size()));
        bytes_.append(text);
        return *this;
    }
    const std::string& bytes() const { return bytes_; }

private:
    std::string bytes_;
};

// A directory, and records of a file, a kind of damage, a place and a value.
void write_open(const std::filesystem::path& folder) {
    const char* const types[] = {"", "_float32", "_bfloat16", "_int8", "_int4"};
    for (int directory = 0; directory < 6; ++directory) {
        for (int type = 0; type < 5; type += directory == 0 ? 1 : 3) {
            const std::string name = std::to_string(directory) + types[type];
            write(folder / ("unchanged_" + name), Input().byte(directory + 6 * type).bytes());
        }
    }
    for (int kind = 0; kind < 6; ++kind) {
        for (int file = 0; file < 4; ++file) {
            Input input;
            input.byte(kind).byte(file).byte(kind).put(std::uint16_t{60});
            if (kind == 2 || kind == 3) input.text("-999");
            if (kind == 1 || kind == 4) input.byte('9');
            write(folder / ("damage_" + std::to_string(kind) + "_" + std::to_string(file)), input.bytes());
        }
    }
}

// One input to an engine, as text or as ids; a prompt and a target in the same form where there are any.
Input request(int engine, int call, bool text, bool prompt, bool target) {
    Input input;
    input.byte(engine).byte(call).byte(0).put(std::uint32_t{1});  // the size of a struct: the library's
    for (const bool given : {true, prompt, target}) {
        if (!given) {
            input.byte(13);
        } else if (text) {
            input.byte(7).text("b a");
        } else {
            input.byte(0).put(std::uint32_t{3}).byte(3).byte(4).byte(5);
        }
    }
    return input;
}

void write_requests(const std::filesystem::path& folder) {
    constexpr int kSampling = 128 | 512 | 2048, kBeams = 2 | 4 | 16, kStop = 8192, kCallback = 16384;
    for (int engine = 0; engine < 4; ++engine) {
        const bool text = engine < 3;
        for (int call = 0; call < 7; ++call) {
            const std::string name = std::to_string(engine) + "_" + std::to_string(call);
            Input plain = request(engine, call, text, engine == 1, call == 3);
            if (call < 2) plain.put(std::uint16_t{0}).byte(6);
            if (call == 2 && engine != 2) plain.put(std::uint32_t{2}).byte(7).text("a").byte(7).text("b");
            write(folder / name, plain.bytes());
        }
        for (const int call : {0, 1}) {
            const auto named = [&](const char* what) {
                return folder / (std::to_string(engine) + "_" + std::to_string(call) + "_" + what);
            };
            const auto with = [&](int set) {
                return request(engine, call, false, false, false).put(static_cast<std::uint16_t>(set)).byte(6);
            };
            write(named("samples"), with(kSampling).put(std::int64_t{3}).put(std::uint64_t{5}).bytes());
            write(named("beams"), with(kBeams).byte(3).byte(2).byte(1).bytes());
            write(named("callback"), with(kCallback).byte(-1).byte(-1).bytes());
            write(named("stop"),
                  with(kStop | kCallback).put(std::uint32_t{1}).byte(0).text("b").byte(-1).byte(4).bytes());
        }
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
    write_open(folder / "open");
    write_requests(folder / "request");
    return 0;
}
