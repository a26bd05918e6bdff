// The whole way from a directory to an answer, through the C interface: a good tiny directory of each kind, whole or in
// shards, with its tokenizers, of which the input changes, cuts and removes files.
#include <array>
#include <optional>

#include "fuzz.h"
#include "lrengine/lrengine.h"
#include "model_directories.h"

namespace {

using model_directories::Files;
using model_directories::Kind;

// A directory on disk that knows what a good one holds.
class Directory {
public:
    Directory(Kind kind, bool sharded) : good_(model_directories::make(kind, sharded)), now_(good_) {
        model_directories::write(folder_, good_);
    }

    std::string path() const { return folder_.path().string(); }
    const Files& good() const { return good_; }
    // Makes the directory hold these files and no others.
    void hold(const Files& files) {
        for (const auto& [name, content] : good_) {
            const auto wanted = files.find(name);
            const auto found = now_.find(name);
            const bool there = found != now_.end();
            if (wanted == files.end()) {
                if (there) std::filesystem::remove(folder_.path() / name);
            } else if (!there || found->second != wanted->second) {
                folder_.write(name, wanted->second);
            }
        }
        now_ = files;
    }

private:
    const Files good_;
    Files now_;
    model_files::TemporaryDirectory folder_;
};

// Records of a file, a kind, a place and a value.
void damage(Files& files, fuzz::Bytes& input) {
    while (!input.empty() && !files.empty()) {
        const auto chosen = std::next(files.begin(), input.take<std::uint8_t>() % files.size());
        std::string& file = chosen->second;
        const std::uint8_t kind = input.take<std::uint8_t>() % 6;
        if (file.empty() || kind == 0) {
            files.erase(chosen);
            continue;
        }
        const std::size_t place = input.take<std::uint16_t>() % file.size();
        if (kind == 1) {
            file[place] = input.take<char>();
        } else if (kind == 2) {
            file.insert(place, input.text(24));
        } else if (kind == 3) {
            const std::string_view text = input.text(24);
            file.replace(place, std::min(text.size(), file.size() - place), text);
        } else if (kind == 4) {
            file.erase(place, input.take<std::uint8_t>());
        } else {
            file.resize(place);
        }
    }
}

void expect(lrengine_status status, std::initializer_list<lrengine_status> expected) {
    fuzz::expect_status(status);
    if (status != LRENGINE_OK && std::find(expected.begin(), expected.end(), status) == expected.end()) std::abort();
}

// A text and ids through everything that the model does.
void use(const lrengine_engine* engine) {
    const auto answers_or_refuses = [](lrengine_status status) {
        expect(status, {LRENGINE_MODEL_FILE, LRENGINE_INVALID_ARGUMENT, LRENGINE_UNSUPPORTED});
    };
    const std::array<std::int32_t, 3> ids{3, 4, 5};
    lrengine_input inputs[] = {LRENGINE_INPUT_INIT, LRENGINE_INPUT_INIT};
    inputs[0].source.ids = ids.data();
    inputs[0].source.id_count = ids.size();
    inputs[1].source.text = "a b\xff";
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = 2;
    for (const lrengine_input& input : inputs) {
        lrengine_generations* answers = nullptr;
        answers_or_refuses(lrengine_generate(engine, &input, 1, &options, nullptr, &answers));
        lrengine_generations_free(answers);
        lrengine_arrays* arrays = nullptr;
        answers_or_refuses(lrengine_classify(engine, &input, 1, nullptr, 0, nullptr, &arrays));
        lrengine_arrays_free(arrays);
        arrays = nullptr;
        answers_or_refuses(lrengine_encode(engine, &input, 1, LRENGINE_ENCODE_FUSED, nullptr, &arrays));
        lrengine_arrays_free(arrays);
    }
}

}  // namespace

// The first byte: which directory, and as what its matrices are opened.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static std::array<Directory, 6> directories{{{Kind::kSwcm, false},
                                                 {Kind::kSwcm, true},
                                                 {Kind::kFusion, false},
                                                 {Kind::kFusion, true},
                                                 {Kind::kClassifier, false},
                                                 {Kind::kClassifier, true}}};
    constexpr std::array<const char*, 5> kTypes{nullptr, "float32", "bfloat16", "int8", "int4"};
    fuzz::Bytes input(data, size);
    const std::size_t choice = input.take<std::uint8_t>();
    Directory& directory = directories[choice % directories.size()];
    Files files = directory.good();
    damage(files, input);
    directory.hold(files);
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.device = "cpu";
    options.threads = 1;
    options.dtype = kTypes[choice / directories.size() % kTypes.size()];
    lrengine_engine* engine = nullptr;
    const lrengine_status status = lrengine_open(directory.path().c_str(), &options, &engine);
    expect(status, {LRENGINE_MODEL_FILE, LRENGINE_UNSUPPORTED});
    if (status == LRENGINE_OK) use(engine);
    lrengine_close(engine);
    return 0;
}
