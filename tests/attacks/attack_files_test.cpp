// Directories whose weights, index or files are broken, opened through the C interface: a status, a message that names
// the file and what is wrong in it, and an engine that was open before goes on. (What each reader refuses, case by
// case: safetensors_test, checkpoint_test, weight_loader_test, attack_config_test, attack_tokenizer_test.)
#include <sys/stat.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include "capi_attacks.h"
#include "core/error.h"
#include "model_files.h"
#include "runtime/engine.h"
#include "tiny_models.h"

using namespace model_files;
using capi_attacks::Engine;
namespace fs = std::filesystem;

namespace {

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// A good directory, an engine on it, and copies of it that get broken.
class Victim {
public:
    Victim() {
        tiny::write_swcm(good_, {.tied_output = false});
        engine_ = std::make_unique<Engine>(good_.path().string());
        REQUIRE(engine_->status() == LRENGINE_OK);
        answer_ = engine_->answer();
        CHECK(!answer_.empty());
    }

    // Opening a copy that `damage` was done to, the search of its weights included.
    void refused(const std::function<void(const TemporaryDirectory&)>& damage,
                 std::initializer_list<std::string> words) const {
        const TemporaryDirectory copy;
        fs::copy(good_.path(), copy.path(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
        damage(copy);
        CHECK_REFUSED(Engine(copy.path().string()).whole_status(), LRENGINE_MODEL_FILE, "found", "expected");
        capi_attacks::check_refused(Engine(copy.path().string()).whole_status(), LRENGINE_MODEL_FILE, words, __FILE__,
                                    __LINE__);
        CHECK(engine_->answer() == answer_);
    }
    void refused_weights(const std::string& content, std::initializer_list<std::string> words) const {
        refused([&](const TemporaryDirectory& copy) { copy.write(kWeights, content); }, words);
    }

    std::vector<Tensor> tensors() const { return good_.tensors(); }
    const tiny::Directory& good() const { return good_; }

private:
    tiny::Directory good_;
    std::unique_ptr<Engine> engine_;
    std::vector<std::int32_t> answer_;
};

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                std::size_t bytes = 16) {
    return safetensors_bytes("{\"w\":" + entry(dtype, shape, offsets) + "}", std::string(bytes, '\0'));
}

Tensor& named(std::vector<Tensor>& tensors, const std::string& name) {
    for (Tensor& tensor : tensors) {
        if (tensor.name == name) return tensor;
    }
    throw std::out_of_range(name);
}

}  // namespace

TEST(headers_that_lie) {  // 1
    const Victim victim;
    const std::string good = "{\"w\":" + entry("U8", "[1]", "[0,1]") + "}";
    for (const std::uint64_t length :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{10'000}, std::uint64_t{200'000'000}, UINT64_MAX,
          UINT64_MAX - 7, std::uint64_t{1} << 63}) {
        victim.refused_weights(safetensors_bytes(good, "x", length),
                               {kWeights, "a header of " + std::to_string(length) + " bytes"});
    }
    victim.refused_weights(safetensors_bytes("[]", ""), {kWeights, "begin with {"});
    victim.refused_weights(safetensors_bytes("{\"\xff\":1}", ""), {kWeights, "UTF-8"});
    const std::string member = "\"w\":" + entry("U8", "[1]", "[0,1]");
    victim.refused_weights(safetensors_bytes("{" + member + "," + member + "}", "x"), {kWeights, "\"w\" twice"});
    victim.refused_weights(safetensors_bytes("{\"w\":" + std::string(1'000'000, '[') + "}", ""), {kWeights, "nesting"});
    victim.refused_weights(safetensors_bytes("{\"w\\u0000w\":" + entry("U8", "[1]", "[0,1]") + "}", "x"),
                           {kWeights, "w w: found", "no zero byte"});
}

TEST(names_and_numbers_of_megabytes_make_short_messages) {
    const Victim victim;
    const auto length_of = [&](const std::string& header) {
        victim.refused_weights(safetensors_bytes(header, ""), {kWeights});
        const TemporaryDirectory copy;
        fs::copy(victim.good().path(), copy.path());
        copy.write(kWeights, safetensors_bytes(header, ""));
        Engine opened(copy.path().string());
        return std::string(lrengine_last_error()).size();
    };
    CHECK(length_of("{\"" + std::string(2'000'000, 'n') + "\":{}}") < 600);
    CHECK(length_of("{\"w\":" + std::string(100'000, '9') + "}") < 600);
}

TEST(offsets_that_lie) {  // 2
    const Victim victim;
    victim.refused_weights(one("F32", "[2,2]", "[16]"), {kWeights, "w.data_offsets", "begin and end"});
    victim.refused_weights(one("F32", "[2,2]", "[16,0]"), {kWeights, "w.data_offsets[1]: found 0"});
    victim.refused_weights(one("F32", "[2,2]", "[0,17]"), {kWeights, "found 17"});
    victim.refused_weights(one("F32", "[2,2]", "[0,16]", 20), {kWeights, "20 bytes of data"});
    const auto two = [](const std::string& first, const std::string& second, std::size_t bytes) {
        return safetensors_bytes("{\"a\":" + entry("U8", "[4]", first) + ",\"b\":" + entry("U8", "[4]", second) + "}",
                                 std::string(bytes, '\0'));
    };
    victim.refused_weights(two("[0,4]", "[2,6]", 6), {kWeights, "b: data_offsets", "no overlap"});
    victim.refused_weights(two("[0,4]", "[5,9]", 9), {kWeights, "b: data_offsets", "no hole"});
}

TEST(shapes_that_lie) {  // 3
    const Victim victim;
    victim.refused_weights(one("F32", "[-2,-2]", "[0,16]"), {kWeights, "w.shape[0]: found -2"});
    victim.refused_weights(one("F32", "[8589934592,2147483648]", "[0,0]", 0), {kWeights, "w.shape", "fewer than 2^64"});
    victim.refused_weights(one("F32", "[0]", "[0,0]", 0), {kWeights, "w.shape[0]: found 0"});
    victim.refused_weights(one("F32", "[1,1,1,1,1,1,1,2,2]", "[0,16]"), {kWeights, "w.shape", "at most 8"});
    victim.refused_weights(one("F8_E4M3", "[16]", "[0,16]"), {kWeights, "w.dtype: found \"F8_E4M3\""});
    victim.refused_weights(one("F32", "[2,3]", "[0,16]"), {kWeights, "w: found", "expected 24"});
}

TEST(indexes_that_point_elsewhere) {  // 4
    const Victim victim;
    const TemporaryDirectory outside;
    outside.write("outside.safetensors", safetensors_bytes(victim.tensors()));
    const auto indexed = [&](const std::string& shard, std::initializer_list<std::string> words) {
        victim.refused(
            [&](const TemporaryDirectory& copy) {
                std::vector<Tensor> tensors = victim.tensors();
                const Tensor last = tensors.back();
                tensors.pop_back();
                fs::remove(copy.path() / kWeights);
                copy.write("a.safetensors", safetensors_bytes(tensors));
                copy.write("twice.safetensors", safetensors_bytes({last, tensors.front()}));
                fs::create_symlink(outside.path() / "outside.safetensors", copy.path() / "link.safetensors");
                std::string map = "{\"" + last.name + "\":\"" + shard + "\"";
                for (const Tensor& tensor : tensors) map += ",\"" + tensor.name + "\":\"a.safetensors\"";
                copy.write(kIndex, "{\"weight_map\":" + map + "}}");
            },
            words);
    };
    indexed("none.safetensors", {"none.safetensors"});
    indexed((fs::path("..") / outside.path().filename() / "outside.safetensors").string(), {kIndex, "weight_map"});
    indexed((outside.path() / "outside.safetensors").string(), {kIndex, "weight_map"});
    indexed("link.safetensors", {"link.safetensors", "not a link out of it"});
    indexed("twice.safetensors", {"expected in one file"});
    indexed("a.safetensors", {"a.safetensors", "found nothing"});
}

TEST(tensors_that_do_not_fit_the_config) {  // 6
    const Victim victim;
    const auto changed = [&](const std::function<void(std::vector<Tensor>&)>& change,
                             std::initializer_list<std::string> words) {
        std::vector<Tensor> tensors = victim.tensors();
        change(tensors);
        victim.refused_weights(safetensors_bytes(tensors), words);
    };
    for (const char* name : {"lm_head.weight", "encoder.embeddings.word_embeddings.weight"}) {
        changed([&](auto& all) { std::erase_if(all, [&](const Tensor& one) { return one.name == name; }); },
                {kWeights, std::string("found no tensor ") + name});
    }
    changed([](auto& all) { all.push_back(float_tensor("extra.weight", {1}, {1})); }, {kWeights, "extra.weight"});
    changed([](auto& all) { std::swap(named(all, "lm_head.weight").shape[0], named(all, "lm_head.weight").shape[1]); },
            {kWeights, "lm_head.weight", "[24, 53]", "[53, 24]"});
    changed([](auto& all) { named(all, "lm_head.weight").dtype = "I32"; }, {kWeights, "lm_head.weight"});
    for (const float value : {NAN, INFINITY, -INFINITY}) {
        for (const char* name : {"lm_head.weight", "lm_head.bias"}) {
            changed(
                [&](auto& all) {
                    std::string& bytes = named(all, name).bytes;
                    std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
                },
                {kWeights, name, "finite"});
        }
    }
}

// What the search of the weights finds after opening is named by every request, and by none that is wrong itself.
TEST(every_request_refuses_weights_that_are_no_numbers) {  // 6
    const std::vector<std::int32_t> source = {5, 6, 7};
    const auto refused = [](const auto& request) {
        for (int call = 0; call < 2; ++call) {
            CHECK_ERROR(request(), lrengine::ErrorCode::kModelFile,
                        "model.safetensors: encoder.embeddings.word_embeddings.weight: found NaN or Inf");
        }
    };
    for (const bool classifier : {false, true}) {
        tiny::Directory directory;
        if (classifier) tiny::write_classifier(directory, R"("mixer": {"type": "last"})");
        if (!classifier) tiny::write_swcm(directory);
        std::vector<float> rows = directory.values("encoder.embeddings.word_embeddings.weight");
        rows.back() = NAN;  // of a token that no request here has
        directory.set("encoder.embeddings.word_embeddings.weight", rows);
        directory.rewrite();
        const auto engine =
            lrengine::Engine::load(directory.path(), {.device = "cpu", .dtype = {}, .threads = 1, .log = {}});
        refused([&] { engine->check_weights(); });
        refused([&] { engine->encode({source}, lrengine::EncodeOutput::kLast); });
        const auto wrong = [](const auto& request) {
            CHECK_ERROR(request(), lrengine::ErrorCode::kInvalidArgument, "-5");
        };
        wrong([&] { engine->encode({{-5}}, lrengine::EncodeOutput::kLast); });
        if (classifier) {
            refused([&] { engine->classify({source}); });
            wrong([&] { engine->classify({{-5}}); });
            continue;
        }
        refused([&] { engine->score({{source, {}, {}}}, {{5, 6}}); });
        wrong([&] { engine->score({{source, {}, {}}}, {{5, -5}}); });
        wrong([&] { engine->start({{{-5}, {}, {}}}, {}, {})->step(); });
        for (const std::int64_t beams : {1, 3}) {
            lrengine::GenerationOptions options;
            options.num_beams = beams;
            refused([&] {
                const auto session = engine->start({{source, {}, {}}}, options, {});
                try {
                    session->step();
                } catch (...) {
                    CHECK(session->done() && session->results()[0][0].tokens.empty());
                    throw;
                }
            });
        }
    }
}

TEST(matrices_of_mixed_types_are_a_model) {  // 6
    const Victim victim;
    std::vector<Tensor> tensors = victim.tensors();
    Tensor& output = named(tensors, "lm_head.weight");
    std::vector<std::uint16_t> upper;
    for (std::size_t i = 2; i < output.bytes.size(); i += 4) {
        std::uint16_t half;
        std::memcpy(&half, output.bytes.data() + i, 2);
        upper.push_back(half);
    }
    output.dtype = "BF16";
    output.bytes = bytes_of(upper);
    const TemporaryDirectory copy;
    fs::copy(victim.good().path() / "config.json", copy.path() / "config.json");
    copy.write(kWeights, safetensors_bytes(tensors));
    CHECK(!Engine(copy.path().string()).answer().empty());
}

TEST(things_in_the_place_of_a_directory_or_file) {  // 7
    const Victim victim;
    const TemporaryDirectory folder;
    folder.write("file", "x");
    fs::create_directory(folder.path() / "empty");
    fs::create_symlink("loop", folder.path() / "loop");
    for (const std::string& name : {std::string("file"), std::string("empty"), std::string("absent"),
                                    std::string("loop"), std::string("file/below"), std::string(300, 'n')}) {
        CHECK_REFUSED(Engine((folder.path() / name).string()).status(), LRENGINE_MODEL_FILE, name, "found", "expected");
    }
    CHECK_REFUSED(Engine("").status(), LRENGINE_MODEL_FILE, "found", "expected");
    for (const std::string& file : {std::string("config.json"), std::string(kWeights), std::string("tokenizer.json")}) {
        const auto replaced = [&](const std::function<void(const fs::path&)>& make) {
            victim.refused(
                [&](const TemporaryDirectory& copy) {
                    fs::remove(copy.path() / file);
                    make(copy.path() / file);
                },
                {file});
        };
        replaced([](const fs::path& path) { fs::create_directory(path); });
        replaced([](const fs::path& path) { std::ofstream(path).flush(); });
        replaced([](const fs::path& path) { REQUIRE(::mkfifo(path.c_str(), 0600) == 0); });
        replaced([](const fs::path& path) { fs::create_symlink("/dev/zero", path); });
        replaced([](const fs::path& path) { fs::create_symlink("nowhere", path); });
        replaced([](const fs::path& path) { fs::create_symlink(path.filename(), path); });
        replaced([](const fs::path& path) { std::ofstream(path) << std::string(1000, '\0'); });
        replaced([](const fs::path& path) {
            std::ofstream(path).flush();
            fs::resize_file(path, std::uintmax_t{40} << 30);  // sparse: nothing on the disk
        });
    }
}
