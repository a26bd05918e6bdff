// Which backend an engine opens, and what it refuses to.
#include "runtime/device.h"

#include <dlfcn.h>

#include <string>
#include <vector>

#include "core/error.h"
#include "environment.h"
#include "harness.h"
#include "model_files.h"
#include "runtime/backend_library.h"

using namespace lrengine;

namespace {

EngineOptions options(const std::string& device, int threads = 1) {
    EngineOptions options;
    options.device = device;
    options.threads = threads;
    return options;
}

void check_library_refused(const std::string& file, const std::vector<std::string>& words) {
    const Setting library("LRENGINE_CUDA_LIBRARY", file);
    for (const std::string& word : words) CHECK_ERROR(open_cuda("cuda"), ErrorCode::kDevice, word);
}

}  // namespace

TEST(names_of_devices_choose_a_backend) {
    CHECK_EQUAL(make_backend(options("cpu"))->device(), "cpu");
    CHECK_EQUAL(make_backend(options("cpu", 0))->device(), "cpu");
    for (const char* name : {"", "tpu", "CPU", "cpu:0", "cudax"}) {
        CHECK_ERROR(make_backend(options(name)), ErrorCode::kInvalidArgument,
                    "device: found \"" + std::string(name) + "\", expected \"auto\", \"cpu\", \"cuda\"");
    }
    for (const int threads : {-1, 1025}) {
        CHECK_ERROR(make_backend(options("cpu", threads)), ErrorCode::kInvalidArgument,
                    "threads: found " + std::to_string(threads));
    }
}

TEST(auto_is_the_cpu_without_a_gpu_and_tells_the_log_once) {
    const Setting library("LRENGINE_CUDA_LIBRARY", "/nowhere/liblrengine_cuda.so");
    EngineOptions automatic = options("auto");
    CHECK_EQUAL(make_backend(automatic)->device(), "cpu");  // nobody listens
    std::vector<std::string> notes;
    automatic.log = [&](const std::string& note) { notes.push_back(note); };
    CHECK_EQUAL(make_backend(automatic)->device(), "cpu");
    REQUIRE(notes.size() == 1);
    CHECK(notes[0].find("device \"auto\" is the CPU: ") == 0);
    CHECK(notes[0].find("/nowhere/liblrengine_cuda.so does not exist") != std::string::npos);
    for (const char* name : {"cuda", "cuda:1"}) {
        CHECK_ERROR(make_backend(options(name)), ErrorCode::kDevice, "does not exist");
    }
}

TEST(a_library_that_is_no_backend_is_refused_by_name) {
    const model_files::TemporaryDirectory folder;
    check_library_refused((folder.path() / "missing.so").string(),
                          {"missing.so does not exist", "LRENGINE_CUDA_LIBRARY", "device \"cpu\""});
    folder.write("text.so", "not a library");
    check_library_refused((folder.path() / "text.so").string(), {"cannot be loaded", "text.so", "device \"cpu\""});
    Dl_info c_library{};
    REQUIRE(dladdr(reinterpret_cast<const void*>(&dlsym), &c_library) != 0);
    check_library_refused(c_library.dli_fname, {"is not a backend of lrengine", "LRENGINE_CUDA_LIBRARY"});
    check_library_refused(LRENGINE_OTHER_BACKEND,
                          {"another version", "its interface is -7, expected " + std::to_string(kBackendInterface),
                           "install both from one build"});
}

TEST(a_library_that_fits_opens_what_was_asked_for) {
    const Setting library("LRENGINE_CUDA_LIBRARY", LRENGINE_PLAYING_BACKEND);
    void* const opened = dlopen(LRENGINE_PLAYING_BACKEND, RTLD_NOW);
    REQUIRE(opened != nullptr);
    const auto asked_for = reinterpret_cast<const char* (*)()>(dlsym(opened, "playing_backend_was_asked_for"));
    REQUIRE(asked_for != nullptr);
    CHECK(make_backend(options("cuda:1")) != nullptr);
    CHECK_EQUAL(std::string(asked_for()), "cuda:1");
    std::string note;
    EngineOptions automatic = options("auto");
    automatic.log = [&](const std::string& text) { note = text; };
    CHECK(make_backend(automatic) != nullptr);
    CHECK_EQUAL(std::string(asked_for()), "cuda");
    CHECK_EQUAL(note, "device \"auto\" is cpu");  // what the backend says it is
}

// Without LRENGINE_CUDA_LIBRARY: beside the library, or here the program, that the code is in.
TEST(the_backend_is_looked_for_beside_the_code) {
    const Setting none("LRENGINE_CUDA_LIBRARY", "");
    const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "liblrengine_cuda.so";
    if (std::filesystem::exists(beside)) return;  // a build with nvcc: then it is that file which opens
    CHECK_ERROR(open_cuda("cuda"), ErrorCode::kDevice, beside.string());
}
