// Whole model directories through the C interface, as a program opens them: cut at every length and changed at every
// byte of every file. Either is an error that says what was found, or a model that answers; never a crash.
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "harness.h"
#include "lrengine/lrengine.h"
#include "model_directories.h"

namespace {

using model_directories::Files;
using model_directories::Kind;

lrengine_status open(const std::string& path, lrengine_engine** engine) {
    lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
    options.device = "cpu";
    options.threads = 1;
    return lrengine_open(path.c_str(), &options, engine);
}

// Text through whatever the model is. Numbers that are no longer finite are the checkpoint's doing; a tokenizer that is
// another now may make ids that the model does not have, or more than it takes.
void use(const lrengine_engine* engine) {
    const auto expected = [](lrengine_status status) {
        return status == LRENGINE_OK || status == LRENGINE_MODEL_FILE || status == LRENGINE_INVALID_ARGUMENT ||
               status == LRENGINE_UNSUPPORTED;
    };
    lrengine_engine_info info = LRENGINE_ENGINE_INFO_INIT;
    CHECK_EQUAL(lrengine_get_info(engine, &info), LRENGINE_OK);
    lrengine_input input = LRENGINE_INPUT_INIT;
    input.source.text = "a b";
    if (info.target_vocabulary == 0) {
        lrengine_arrays* probabilities = nullptr;
        CHECK(expected(lrengine_classify(engine, &input, 1, nullptr, 0, nullptr, &probabilities)));
        lrengine_arrays_free(probabilities);
        return;
    }
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = 2;
    lrengine_generations* answers = nullptr;
    CHECK(expected(lrengine_generate(engine, &input, 1, &options, nullptr, &answers)));
    lrengine_generations_free(answers);
}

// Whether it opened; what does not must say why.
bool opens(const std::string& path, bool used) {
    lrengine_engine* engine = nullptr;
    const lrengine_status status = open(path, &engine);
    if (status == LRENGINE_OK) {
        if (used) use(engine);
        lrengine_close(engine);
        return true;
    }
    const std::string message = lrengine_last_error();
    const bool told = message.find("found") != std::string::npos || message.find("config.json") != std::string::npos;
    if ((status != LRENGINE_MODEL_FILE && status != LRENGINE_UNSUPPORTED) || !told) {
        harness::report(__FILE__, __LINE__, std::string(lrengine_status_name(status)) + ": " + message);
    }
    return false;
}

// body(directory, name, content) for every file of every kind of directory; of one in shards, for those that are
// others.
template <typename Body>
void for_each_file(Body body) {
    for (const Kind kind : {Kind::kSwcm, Kind::kFusion, Kind::kClassifier}) {
        const Files whole = model_directories::make(kind, false);
        for (const bool sharded : {false, true}) {
            const Files files = model_directories::make(kind, sharded);
            const model_files::TemporaryDirectory directory;
            model_directories::write(directory, files);
            REQUIRE(opens(directory.path().string(), true));
            for (const auto& [name, content] : files) {
                if (sharded && whole.contains(name)) continue;
                body(directory.path().string(), name, content);
                directory.write(name, content);
            }
            CHECK(opens(directory.path().string(), true));
        }
    }
}

// Of weights, the header: what follows is numbers, each as good as another.
std::size_t end_of_text(const std::string& name, const std::string& content) {
    if (!name.ends_with(".safetensors")) return content.size();
    std::uint64_t header = 0;
    std::memcpy(&header, content.data(), sizeof header);
    return sizeof header + header;
}

}  // namespace

TEST(a_directory_with_a_file_cut_at_any_length_is_refused) {
    std::size_t cuts = 0;
    for_each_file([&](const std::string& directory, const std::string& name, const std::string& content) {
        for (std::size_t length = content.size(); length-- > 0; ++cuts) {
            REQUIRE(::truncate((directory + '/' + name).c_str(), static_cast<off_t>(length)) == 0);
            if (opens(directory, false)) {
                harness::report(__FILE__, __LINE__, name + " cut to " + std::to_string(length) + " bytes opened");
            }
        }
    });
    std::cout << cuts << " cuts\n";
    CHECK(cuts > 50'000);
}

TEST(a_directory_with_any_byte_changed_is_refused_or_answers) {
    std::size_t opened = 0, refused = 0;
    for_each_file([&](const std::string& directory, const std::string& name, const std::string& content) {
        std::fstream file(directory + '/' + name, std::ios::in | std::ios::out | std::ios::binary);
        const auto put = [&](std::size_t place, char value) {
            file.seekp(static_cast<std::streamoff>(place)).put(value).flush();
        };
        const std::size_t end = end_of_text(name, content);
        for (std::size_t i = 0; i < end; ++i) {
            put(i, static_cast<char>(content[i] ^ (1 << (i * 5 % 8))));
            (opens(directory, true) ? opened : refused)++;
            put(i, content[i]);
        }
    });
    std::cout << opened << " opened, " << refused << " refused\n";
    CHECK(opened > 5'000);
    CHECK(refused > 40'000);
}

TEST(a_directory_without_one_of_its_files_is_refused_or_takes_ids) {
    for_each_file([&](const std::string& directory, const std::string& name, const std::string&) {
        std::filesystem::remove(directory + '/' + name);
        CHECK_EQUAL(opens(directory, true), name.ends_with("tokenizer.json"));
    });
}
