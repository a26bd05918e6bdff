// Whole model directories through the C interface, as a program opens them: cut at every length and changed at every
// byte of every file. Either is an error that says what was found, or a model that answers; never a crash.
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>
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

enum class Outcome { kRefused, kOpened, kAnswered };

// Text through whatever the model is.
lrengine_status answer(const lrengine_engine* engine) {
    lrengine_engine_info info = LRENGINE_ENGINE_INFO_INIT;
    CHECK_EQUAL(lrengine_get_info(engine, &info), LRENGINE_OK);
    lrengine_input input = LRENGINE_INPUT_INIT;
    input.source.text = "a b";
    if (info.target_vocabulary == 0) {
        lrengine_arrays* probabilities = nullptr;
        const lrengine_status status = lrengine_classify(engine, &input, 1, nullptr, 0, nullptr, &probabilities);
        lrengine_arrays_free(probabilities);
        return status;
    }
    lrengine_generate_options options = LRENGINE_GENERATE_OPTIONS_INIT;
    options.max_new_tokens = 2;
    lrengine_generations* answers = nullptr;
    const lrengine_status status = lrengine_generate(engine, &input, 1, &options, nullptr, &answers);
    lrengine_generations_free(answers);
    return status;
}

// What does not open must say why. A model that opened may have numbers whose sums are not finite, and a tokenizer that
// is another now, or none, may make ids that the model does not have.
Outcome outcome_of(const std::string& path) {
    lrengine_engine* engine = nullptr;
    lrengine_status status = open(path, &engine);
    const bool opened = status == LRENGINE_OK;
    if (opened) status = answer(engine);
    lrengine_close(engine);
    if (status == LRENGINE_OK) return Outcome::kAnswered;
    const std::string message = lrengine_last_error();
    const bool told =
        opened || message.find("found") != std::string::npos || message.find("declares") != std::string::npos;
    const bool expected = status == LRENGINE_MODEL_FILE || status == LRENGINE_UNSUPPORTED ||
                          (opened && status == LRENGINE_INVALID_ARGUMENT);
    if (!told || !expected) {
        harness::report(__FILE__, __LINE__, std::string(lrengine_status_name(status)) + ": " + message);
    }
    return opened ? Outcome::kOpened : Outcome::kRefused;
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
            REQUIRE(outcome_of(directory.path().string()) == Outcome::kAnswered);
            for (const auto& [name, content] : files) {
                if (sharded && whole.contains(name)) continue;
                body(directory.path().string(), name, content);
                directory.write(name, content);
            }
            CHECK(outcome_of(directory.path().string()) == Outcome::kAnswered);
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
            if (outcome_of(directory) != Outcome::kRefused) {
                harness::report(__FILE__, __LINE__, name + " cut to " + std::to_string(length) + " bytes opened");
            }
        }
    });
    std::cout << cuts << " cuts\n";
    CHECK(cuts > 50'000);
}

TEST(a_directory_with_any_byte_changed_is_refused_or_answers) {
    std::map<Outcome, std::size_t> counts;
    for_each_file([&](const std::string& directory, const std::string& name, const std::string& content) {
        std::fstream file(directory + '/' + name, std::ios::in | std::ios::out | std::ios::binary);
        const auto put = [&](std::size_t place, char value) {
            file.seekp(static_cast<std::streamoff>(place)).put(value).flush();
        };
        const std::size_t end = end_of_text(name, content);
        for (std::size_t i = 0; i < end; ++i) {
            put(i, static_cast<char>(content[i] ^ (1 << (i * 5 % 8))));
            ++counts[outcome_of(directory)];
            put(i, content[i]);
        }
    });
    std::cout << counts[Outcome::kAnswered] << " answered, " << counts[Outcome::kOpened]
              << " opened and refused the text, " << counts[Outcome::kRefused] << " refused\n";
    CHECK(counts[Outcome::kAnswered] > 3'000);
    CHECK(counts[Outcome::kRefused] > 40'000);
}

TEST(a_directory_without_one_of_its_files_is_refused_or_takes_ids) {
    for_each_file([&](const std::string& directory, const std::string& name, const std::string&) {
        std::filesystem::remove(directory + '/' + name);
        CHECK_EQUAL(outcome_of(directory) != Outcome::kRefused, name.ends_with("tokenizer.json"));
    });
}
