// Every cut and every changed byte of a model directory: an error or, where the change is harmless, a model; never a
// crash. Worth most under the sanitizers.
#include <functional>

#include "config_files.h"
#include "core/checkpoint.h"
#include "core/error.h"
#include "core/weight_loader.h"
#include "harness.h"
#include "host_backend.h"

using namespace lrengine;
using namespace model_files;

namespace {

const std::string kWeights = safetensors_bytes({float_tensor("w", {2, 3}, {1, 2, 3, 4, 5, 6}),
                                                {"h", "BF16", {2}, bytes_of<std::uint16_t>({0x3f80, 0x4000})},
                                                {"q", "I8", {2, 2}, std::string("\1\2\3\4")},
                                                float_tensor("q_scale", {2}, {1, 2}),
                                                {"n", "U8", {1, 16}, std::string(16, '\x6b')},
                                                {"n_scale", "BF16", {1, 1}, bytes_of<std::uint16_t>({0x3f80})}});

// Opens a directory and reads all of its weights, each as whatever its shape allows.
void load_everything(const std::filesystem::path& directory) {
    const Checkpoint checkpoint = Checkpoint::open(directory);
    WeightSearch search;
    HostBackend backend;
    WeightStorage storage(backend);
    for (const auto target : {std::optional<DType>(), std::optional(DType::kFloat32)}) {
        WeightLoader loader(checkpoint, backend, storage, search, target);
        for (const std::string& name : checkpoint.names()) {
            const TensorRecord& record = *checkpoint.find(name);
            if (record.shape.size() == 2) {
                loader.matrix(name, record.shape[0], record.shape[1] * (record.dtype == DType::kUInt8 ? 2 : 1));
            } else {
                loader.vector(name, static_cast<std::int64_t>(record.bytes / size_of(record.dtype)));
            }
        }
        storage.matrices.clear();
        storage.vectors.clear();
    }
    search.finish();
}

enum class Outcome { kLoaded, kRefused };

// Anything but an Error with a code for bad files, and a message that names a file, is a failure.
Outcome outcome_of(const std::function<void()>& body) {
    try {
        body();
        return Outcome::kLoaded;
    } catch (const Error& error) {
        CHECK(error.code() == ErrorCode::kModelFile || error.code() == ErrorCode::kUnsupported);
        CHECK(std::string(error.what()).find("found") != std::string::npos);
        return Outcome::kRefused;
    }
}

// Every length of `content` but the whole.
void sweep_cuts(const std::string& content, const std::function<void(const std::string&)>& body) {
    for (std::size_t length = 0; length < content.size(); ++length) body(content.substr(0, length));
}

// Every byte replaced by values that flip bits, end strings, open brackets and change digits.
void sweep_changes(const std::string& content, std::size_t end, const std::function<void(const std::string&)>& body) {
    for (std::size_t i = 0; i < end; ++i) {
        for (const int change : {0x01, 0x10, 0x80, 0xff}) {
            std::string changed = content;
            changed[i] = static_cast<char>(changed[i] ^ change);
            body(changed);
        }
        for (const char value : {'\0', '"', '[', '{', '}', '0', '9', '-', 'e', ' '}) {
            std::string changed = content;
            changed[i] = value;
            body(changed);
        }
    }
}

}  // namespace

TEST(sweep_of_cuts_through_a_weight_file) {
    const TemporaryDirectory directory;
    sweep_cuts(kWeights, [&](const std::string& cut) {
        directory.write("model.safetensors", cut);
        CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kRefused);
    });
    directory.write("model.safetensors", kWeights);
    CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kLoaded);
    directory.write("model.safetensors", kWeights + '\0');
    CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kRefused);
}

TEST(sweep_of_changes_through_a_weight_file) {
    const TemporaryDirectory directory;
    int loaded = 0, refused = 0;
    sweep_changes(kWeights, kWeights.size(), [&](const std::string& changed) {
        directory.write("model.safetensors", changed);
        (outcome_of([&] { load_everything(directory.path()); }) == Outcome::kLoaded ? loaded : refused)++;
    });
    CHECK(loaded > 100);  // other numbers, other names
    CHECK(refused > 1000);
}

TEST(sweep_of_cuts_through_an_index_and_its_shards) {
    const std::string shard = safetensors_bytes({float_tensor("v", {1}, {1})});
    const std::string index = R"({"metadata":{"total_size":4},"weight_map":{"v":"one.safetensors"}})";
    const TemporaryDirectory directory;
    directory.write("one.safetensors", shard);
    sweep_cuts(index, [&](const std::string& cut) {
        directory.write("model.safetensors.index.json", cut);
        CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kRefused);
    });
    sweep_changes(index, index.size(), [&](const std::string& changed) {
        directory.write("model.safetensors.index.json", changed);
        outcome_of([&] { load_everything(directory.path()); });
    });
    directory.write("model.safetensors.index.json", index);
    CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kLoaded);
    sweep_cuts(shard, [&](const std::string& cut) {
        directory.write("one.safetensors", cut);
        CHECK(outcome_of([&] { load_everything(directory.path()); }) == Outcome::kRefused);
    });
}

TEST(sweep_of_cuts_through_config_files) {
    const TemporaryDirectory directory;
    for (const auto& fields : {config_files::swcm(), config_files::fusion(), config_files::classifier()}) {
        sweep_cuts(fields.dump(), [&](const std::string& cut) {
            directory.write("config.json", cut);
            CHECK(outcome_of([&] { read_config(directory.path()); }) == Outcome::kRefused);
        });
    }
}

TEST(sweep_of_changes_through_config_files) {
    const TemporaryDirectory directory;
    int loaded = 0, refused = 0;
    for (const auto& fields :
         {config_files::swcm(), config_files::fusion(config_files::m2m100(), config_files::qwen2())}) {
        const std::string text = fields.dump();
        sweep_changes(text, text.size(), [&](const std::string& changed) {
            directory.write("config.json", changed);
            (outcome_of([&] { read_config(directory.path()); }) == Outcome::kLoaded ? loaded : refused)++;
        });
    }
    CHECK(loaded > 100);
    CHECK(refused > 1000);
}
