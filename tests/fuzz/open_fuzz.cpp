// The whole way from a directory to a token: a good tiny model, of which the input overwrites bytes or cuts files.
#include <map>

#include "fuzz.h"
#include "runtime/engine.h"
#include "tiny_models.h"

namespace {

using Files = std::map<std::string, std::string>;

Files good_files() {
    tiny::Directory directory;
    tiny::write_swcm(directory);
    Files files;
    for (const char* name : {"config.json", "model.safetensors"}) {
        std::ifstream file(directory.path() / name, std::ios::binary);
        files[name] = {std::istreambuf_iterator<char>(file), {}};
    }
    return files;
}

// Records of a kind, a place and a value: change a byte, put text, cut.
void damage(Files& files, fuzz::Bytes& input) {
    while (!input.empty()) {
        const std::uint8_t kind = input.take<std::uint8_t>();
        std::string& file = files[kind % 2 == 0 ? "config.json" : "model.safetensors"];
        if (file.empty()) return;
        // Mostly the header: what follows is numbers.
        const std::size_t place = input.index(kind % 16 < 12 ? std::min<std::size_t>(file.size(), 8192) : file.size());
        switch (kind / 16 % 4) {
            case 0:
                file[place] = input.take<char>();
                break;
            case 1:
                file.insert(place, input.text(16));
                break;
            case 2: {
                const std::string_view text = input.text(16);
                file.replace(place, std::min(text.size(), file.size() - place), text);
                break;
            }
            default:
                file.resize(place);
        }
    }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Files good = good_files();
    static const model_files::TemporaryDirectory directory;
    Files files = good;
    fuzz::Bytes input(data, size);
    damage(files, input);
    for (const auto& [name, content] : files) directory.write(name, content);
    fuzz::expect_answer([] {
        const auto engine =
            lrengine::Engine::load(directory.path(), {.device = "cpu", .dtype = {}, .threads = 1, .log = {}});
        lrengine::GenerationOptions options;
        options.max_new_tokens = 2;
        const auto session = engine->start({{{3, 4, 5}, {}, {}}}, options, {});
        while (!session->done()) session->step();
        session->results();
    });
    return 0;
}
