// Directories of weights: one file, or shards through an index.
#include "core/checkpoint.h"

#include <sys/stat.h>

#include "core/error.h"
#include "environment.h"
#include "harness.h"
#include "model_files.h"

using namespace lrengine;
using namespace model_files;
namespace fs = std::filesystem;

namespace {

const std::string kShardA = safetensors_bytes({float_tensor("a", {2}, {1, 2}), float_tensor("b", {1}, {3})});
const std::string kShardC = safetensors_bytes({float_tensor("c", {1}, {4})});

std::string index_of(const std::string& weight_map) { return R"({"metadata":{},"weight_map":)" + weight_map + "}"; }

// Two shards and the index that is given.
void write_shards(const TemporaryDirectory& directory, const std::string& weight_map) {
    directory.write("one.safetensors", kShardA);
    directory.write("two.safetensors", kShardC);
    directory.write("model.safetensors.index.json", index_of(weight_map));
}

constexpr const char* kGoodMap = R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors"})";

void check_map_refused(const std::string& weight_map, const std::string& fragment) {
    const TemporaryDirectory directory;
    write_shards(directory, weight_map);
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, fragment);
}

}  // namespace

TEST(checkpoint_of_one_file) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors", kShardA);
    const Checkpoint checkpoint = Checkpoint::open(directory.path());
    CHECK(checkpoint.names() == std::vector<std::string>({"a", "b"}));
    CHECK_EQUAL(static_cast<const float*>(checkpoint.find("a")->data)[1], 2.0f);
    CHECK(checkpoint.find("none") == nullptr);
    CHECK_EQUAL(checkpoint.mapped_bytes(), kShardA.size());
    CHECK(checkpoint.find("a")->file.ends_with("model.safetensors"));
}

TEST(checkpoint_of_shards) {
    const TemporaryDirectory directory;
    write_shards(directory, kGoodMap);
    Checkpoint checkpoint = Checkpoint::open(directory.path());
    const Checkpoint moved = std::move(checkpoint);
    CHECK(moved.names() == std::vector<std::string>({"a", "b", "c"}));
    CHECK_EQUAL(static_cast<const float*>(moved.find("c")->data)[0], 4.0f);
    CHECK(moved.find("c")->file.ends_with("two.safetensors"));
    CHECK_EQUAL(moved.mapped_bytes(), kShardA.size() + kShardC.size());
}

TEST(checkpoint_survives_a_new_file_renamed_over_its_own) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors", kShardA);
    const Checkpoint checkpoint = Checkpoint::open(directory.path());
    directory.write("new", kShardC);
    fs::rename(directory.path() / "new", directory.path() / "model.safetensors");
    CHECK_EQUAL(static_cast<const float*>(checkpoint.find("b")->data)[0], 3.0f);
}

TEST(checkpoint_refuses_directories_that_are_none) {
    const TemporaryDirectory directory;
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "no weights");
    CHECK_ERROR(Checkpoint::open(directory.path() / "none"), ErrorCode::kModelFile, "no such directory");
    CHECK_ERROR(Checkpoint::open(fs::path()), ErrorCode::kModelFile, "no such directory");
    directory.write("file", "x");
    CHECK_ERROR(Checkpoint::open(directory.path() / "file"), ErrorCode::kModelFile, "expected a model directory");
}

TEST(checkpoint_refuses_files_that_are_none) {
    const TemporaryDirectory directory;
    const fs::path file = directory.path() / "model.safetensors";
    directory.write("model.safetensors", "");
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "model.safetensors: found an empty file");
    fs::remove(file);
    fs::create_directory(file);
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "found a directory");
    fs::remove(file);
    fs::create_symlink("nowhere", file);
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "No such file");
    fs::remove(file);
    REQUIRE(::mkfifo(file.c_str(), 0600) == 0);  // must not wait for a writer
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "something else than a file");
}

TEST(checkpoint_refuses_a_file_it_may_not_read) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors", kShardA);
    fs::permissions(directory.path() / "model.safetensors", fs::perms::none);
    fs::permissions(directory.path(), fs::perms(0755));
    const Nobody nobody;
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "Permission denied");
}

TEST(checkpoint_says_that_it_may_not_enter_a_directory) {
    const TemporaryDirectory directory;
    directory.write("model.safetensors", kShardA);
    const fs::path inner = directory.path() / "inner";
    fs::create_directory(inner);
    fs::permissions(directory.path(), fs::perms(0600));
    {
        const Nobody nobody;
        CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "Permission denied");
        CHECK_ERROR(Checkpoint::open(inner), ErrorCode::kModelFile, "Permission denied");
    }
    fs::permissions(directory.path(), fs::perms(0700));  // so that it can be removed
}

TEST(checkpoint_refuses_an_index_that_names_missing_things) {
    check_map_refused(R"({"a":"one.safetensors","b":"one.safetensors","c":"three.safetensors"})", "three.safetensors");
    check_map_refused(R"({"a":"one.safetensors","b":"one.safetensors","c":"two.safetensors","d":"two.safetensors"})",
                      "d: found nothing");
    check_map_refused(R"({"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"})", "b: found nothing");
    check_map_refused(R"({"a":"one.safetensors","c":"two.safetensors"})", "b: found a tensor that");
    check_map_refused("{}", "weight_map");
    check_map_refused("[]", "weight_map");
    check_map_refused(R"({"a":1})", "weight_map.a: found 1");
    check_map_refused(R"({"a":"one.safetensors","a":"two.safetensors"})", "twice");
}

TEST(checkpoint_refuses_an_index_without_a_map) {
    const TemporaryDirectory directory;
    for (const char* text : {"{}", "[]", "not json", "{\"weight_map\":null}", "{\"weight_map\":"}) {
        directory.write("model.safetensors.index.json", text);
        CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "model.safetensors.index.json");
    }
}

TEST(checkpoint_refuses_a_tensor_in_two_shards) {
    const TemporaryDirectory directory;
    write_shards(directory, kGoodMap);
    directory.write("two.safetensors", safetensors_bytes({float_tensor("c", {1}, {4}), float_tensor("a", {1}, {5})}));
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "expected in one file");
}

TEST(checkpoint_refuses_shards_outside_of_the_directory) {
    const TemporaryDirectory outside;
    outside.write("two.safetensors", kShardC);
    const TemporaryDirectory directory;
    write_shards(directory, kGoodMap);
    fs::create_directory(directory.path() / "sub");
    fs::copy(directory.path() / "two.safetensors", directory.path() / "sub" / "two.safetensors");
    const std::string absolute = (outside.path() / "two.safetensors").string();
    const std::string relative = (fs::path("..") / outside.path().filename() / "two.safetensors").string();
    for (const std::string& shard : {absolute, relative, std::string("sub/two.safetensors"), std::string("sub\\\\two"),
                                     std::string("./two.safetensors"), std::string(".."), std::string("."),
                                     std::string(), std::string("two.safetensors\\u0000.x")}) {
        directory.write("model.safetensors.index.json",
                        index_of(R"({"a":"one.safetensors","b":"one.safetensors","c":")" + shard + "\"}"));
        CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "weight_map.c");
    }
}

TEST(checkpoint_refuses_a_shard_that_is_a_link_out_of_the_directory) {
    const TemporaryDirectory outside;
    outside.write("two.safetensors", kShardC);
    const TemporaryDirectory directory;
    write_shards(directory, kGoodMap);
    fs::remove(directory.path() / "two.safetensors");
    fs::create_symlink(outside.path() / "two.safetensors", directory.path() / "two.safetensors");
    CHECK_ERROR(Checkpoint::open(directory.path()), ErrorCode::kModelFile, "not a link out of it");
    fs::remove(directory.path() / "two.safetensors");
    directory.write("real", kShardC);
    fs::create_symlink("real", directory.path() / "two.safetensors");
    CHECK_EQUAL(Checkpoint::open(directory.path()).names().size(), 3u);  // within the directory is fine
}

TEST(checkpoint_opens_through_a_linked_directory) {
    const TemporaryDirectory directory, links;
    write_shards(directory, kGoodMap);
    fs::create_directory_symlink(directory.path(), links.path() / "model");
    CHECK_EQUAL(Checkpoint::open(links.path() / "model").names().size(), 3u);
}
