// What opening a GPU says where there is none that works.
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "cuda/matmul_library.h"
#include "cuda_engine.h"
#include "environment.h"
#include "runtime/backend_library.h"

using namespace cuda_engine;

namespace {

// A library that loads, and is none of those that are looked for: the emulation itself.
std::string other_library() {
    Dl_info info{};
    REQUIRE(dladdr(reinterpret_cast<const void*>(&cudaGetErrorName), &info) != 0);
    return info.dli_fname;
}

void check_refused(const std::string& device, const emulation::DeviceSettings& settings,
                   const std::vector<std::string>& words) {
    emulation::reset();
    emulation::set_device(settings);
    for (const std::string& word : words) CHECK_ERROR(open_cuda(device), ErrorCode::kDevice, word);
    emulation::reset();
    CHECK_EQUAL(open_cuda("cuda")->device(), "cuda:0");  // what was refused leaves nothing behind
    CHECK_EQUAL(alive(), std::size_t{0});
}

}  // namespace

TEST(without_a_usable_device_opening_says_what_to_do) {
    check_refused("cuda", {.count = 0, .driver_version = 0}, {"no CUDA driver", "install", "device \"cpu\""});
    check_refused("cuda", {.driver_version = 12040},
                  {"for CUDA 12.4", "needs 13.0", "update the driver", "device \"cpu\""});
    check_refused("cuda", {.count = 0}, {"no device", "nvidia-smi", "CUDA_VISIBLE_DEVICES", "device \"cpu\""});
    check_refused("cuda:7", {}, {"cuda:7 does not exist", "cuda:0 to cuda:0"});
    check_refused("cuda:7", {.count = 3}, {"cuda:7 does not exist", "cuda:0 to cuda:2"});
    check_refused("cuda", {.major = 7, .minor = 5},
                  {"cuda:0: compute capability 7.5", "8.0 or later", "device \"cpu\""});
}

TEST(names_of_devices_are_checked) {
    const FreshDevice fresh;
    for (const char* name : {"cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999"}) {
        CHECK_ERROR(open_cuda(name), ErrorCode::kInvalidArgument, name);
    }
}

// What the next test runs in a program of its own: opening says LRENGINE_TEST_EXPECTED, or succeeds where that is "".
TEST(child_opens_without_being_told_a_library) {
    const char* expected = std::getenv("LRENGINE_TEST_EXPECTED");
    if (expected == nullptr) return;
    if (*expected == '\0') {
        CHECK_EQUAL(open_cuda("cuda")->device(), "cuda:0");
    } else {
        CHECK_ERROR(open_cuda("cuda"), ErrorCode::kDevice, expected);
    }
}

// These tests are linked statically, as a program may be. It finds the backend beside its file, however it is called.
TEST(a_static_program_looks_beside_its_own_file) {
    const model_files::TemporaryDirectory folder;
    const char* library = std::getenv("LRENGINE_CUDA_LIBRARY");
    REQUIRE(library != nullptr);
    std::filesystem::copy_file("/proc/self/exe", folder.path() / "program");
    const auto run = [&](const std::string& program, const std::string& expected) {
        const std::string child = "cd / && unset LRENGINE_CUDA_LIBRARY && PATH='" + folder.path().string() +
                                  "':$PATH LRENGINE_TEST_EXPECTED='" + expected + "' " + program +
                                  " child_opens_without > /dev/null";
        CHECK_EQUAL(std::system(child.c_str()), 0);
    };
    run("program", (folder.path() / "liblrengine_cuda.so").string() + " does not exist");
    std::filesystem::create_directory(folder.path() / "libraries");
    std::filesystem::create_symlink(library, folder.path() / "libraries" / "liblrengine_cuda.so");
    run("LD_LIBRARY_PATH='" + (folder.path() / "libraries").string() + "' program", "");
    std::filesystem::create_symlink(library, folder.path() / "liblrengine_cuda.so");
    run("program", "");
    run((folder.path() / "program").string(), "");
    run("bash -c 'exec -a other/name program child_opens_without' #", "");
}

// matmul_library.cpp as a real build has it, which an emulated one replaces.
TEST(a_library_that_is_not_cublaslt_is_refused_by_name) {
    {
        const Setting library("LRENGINE_CUBLASLT", other_library());
        CHECK_ERROR(cuda::load_matmul_library(), ErrorCode::kDevice, "cuBLASLt has no cublasLtCreate");
    }
    const Setting library("LRENGINE_CUBLASLT", "/nowhere/libcublasLt.so");
    for (const char* word : {"cuBLASLt was not found", "LRENGINE_CUBLASLT", "/nowhere/libcublasLt.so"}) {
        CHECK_ERROR(cuda::load_matmul_library(), ErrorCode::kDevice, word);
    }
}

TEST(auto_falls_back_to_the_cpu_and_says_why) {
    const FreshDevice fresh;
    tiny::Directory directory;
    tiny::write_swcm(directory);
    std::vector<std::string> notes;
    const auto load_auto = [&] {
        notes.clear();
        return Engine::load(directory.path(),
                            {.device = "auto", .dtype = {}, .threads = 1, .log = [&](const std::string& note) {
                                 notes.push_back(note);
                             }});
    };
    const auto expect = [&](const std::string& device, const std::string& why) {
        CHECK(load_auto()->device().starts_with(device));
        REQUIRE(notes.size() == 1);
        CHECK(notes[0].find(why) != std::string::npos);
    };
    expect("cuda:0", "device \"auto\" is cuda:0");
    emulation::set_device({.count = 0, .driver_version = 0});
    expect("cpu", "device \"auto\" is the CPU: no CUDA driver");
    emulation::set_device({.major = 7, .minor = 5});
    expect("cpu", "compute capability 7.5");
    emulation::reset();
    emulation::fail_allocation(1);  // a device that others fill
    expect("cpu", "out of memory");
    const Setting library("LRENGINE_CUDA_LIBRARY", "/nowhere/liblrengine_cuda.so");
    expect("cpu", "/nowhere/liblrengine_cuda.so does not exist");
}
