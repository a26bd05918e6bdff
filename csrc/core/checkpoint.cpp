#include "core/checkpoint.h"

#include <map>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/safetensors.h"

namespace lrengine {

namespace fs = std::filesystem;

struct Checkpoint::State {
    std::vector<MappedFile> files;
    std::map<std::string, TensorRecord> records;

    void add_file(const fs::path& path) {
        files.push_back(MappedFile::open(path));
        for (TensorRecord& record : read_safetensors(files.back().bytes(), path.string())) {
            const auto [place, added] = records.try_emplace(record.name, record);
            if (!added) {
                fail(ErrorCode::kModelFile, path.string() + ": " + record.name + ": found here and in " +
                                                place->second.file + ", expected in one file");
            }
        }
    }
};

namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::size_t kLargestIndex = std::size_t{64} << 20;
constexpr int kIndexDepth = 8;

// Where a shard lies. An index may only name files of its own directory: it came with the model, from anywhere.
fs::path shard_path(const fs::path& directory, const JsonValue& field) {
    const std::string name = field.text();
    const bool plain = !name.empty() && name != "." && name != ".." &&
                       name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
    if (!plain) field.refuse("the name of a file in the same directory");
    const fs::path path = directory / name;
    std::error_code missing;
    const fs::path real = fs::canonical(path, missing);
    if (missing) field.refuse("a shard that exists (" + path.string() + ": " + missing.message() + ")");
    if (real.parent_path() != fs::canonical(directory))
        field.refuse("a file in the same directory, not a link out of it");
    return path;
}

// Tensor name -> file, from the index.
std::map<std::string, fs::path> read_index(const fs::path& directory) {
    const JsonValue index = JsonValue::read(directory / kIndexFile, {.bytes = kLargestIndex, .depth = kIndexDepth});
    const JsonValue weight_map = index.at("weight_map");
    std::map<std::string, fs::path> known;  // a shard is looked up once, not once a tensor
    std::map<std::string, fs::path> places;
    for (const std::string& name : weight_map.keys()) {
        const JsonValue field = weight_map.at(name);
        const std::string file = field.text();
        if (!known.contains(file)) known[file] = shard_path(directory, field);
        places[name] = known[file];
    }
    if (places.empty()) weight_map.refuse("at least one tensor");
    return places;
}

// Both ways: every tensor of the index is in its shard, and every tensor of a shard is in the index.
void check_index(const std::map<std::string, fs::path>& places, const std::map<std::string, TensorRecord>& records,
                 const fs::path& index) {
    for (const auto& [name, path] : places) {
        const auto record = records.find(name);
        if (record == records.end() || record->second.file != path.string()) {
            fail(ErrorCode::kModelFile, path.string() + ": " + name + ": found nothing, expected this tensor, which " +
                                            index.string() + " says is here");
        }
    }
    for (const auto& [name, record] : records) {
        if (!places.contains(name)) {
            fail(ErrorCode::kModelFile, record.file + ": " + name + ": found a tensor that " + index.string() +
                                            " does not name, expected only those that it does");
        }
    }
}

void check_directory(const fs::path& directory) {
    std::error_code error;
    const fs::file_status status = fs::status(directory, error);
    if (status.type() == fs::file_type::directory) return;
    std::string found = "something else";
    if (status.type() == fs::file_type::not_found) found = "no such directory";
    if (status.type() == fs::file_type::none) found = error.message();  // it cannot be looked at
    fail(ErrorCode::kModelFile, directory.string() + ": found " + found + ", expected a model directory");
}

// True too where it cannot be known, for example in a directory that may not be entered: opening it then says why.
bool lies_in(const fs::path& directory, const char* name) {
    std::error_code error;
    return fs::symlink_status(directory / name, error).type() != fs::file_type::not_found;
}

}  // namespace

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const fs::path& directory) {
    check_directory(directory);
    auto state = std::make_unique<State>();
    if (lies_in(directory, kSingleFile)) {
        state->add_file(directory / kSingleFile);
    } else if (lies_in(directory, kIndexFile)) {
        const std::map<std::string, fs::path> places = read_index(directory);
        std::map<fs::path, bool> opened;
        for (const auto& place : places) {
            if (opened.try_emplace(place.second, true).second) state->add_file(place.second);
        }
        check_index(places, state->records, directory / kIndexFile);
    } else {
        fail(ErrorCode::kModelFile,
             directory.string() + ": found no weights, expected " + kSingleFile + " or " + kIndexFile);
    }
    return Checkpoint(std::move(state));
}

const TensorRecord* Checkpoint::find(const std::string& name) const {
    const auto record = state_->records.find(name);
    return record == state_->records.end() ? nullptr : &record->second;
}

std::vector<std::string> Checkpoint::names() const {
    std::vector<std::string> names;
    for (const auto& entry : state_->records) names.push_back(entry.first);
    return names;
}

std::size_t Checkpoint::mapped_bytes() const {
    std::size_t total = 0;
    for (const MappedFile& file : state_->files) total += file.bytes().size();
    return total;
}

}  // namespace lrengine
