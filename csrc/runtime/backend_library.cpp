#include "runtime/backend_library.h"

#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "core/error.h"

namespace lrengine {

namespace {

constexpr const char* kLibrary = "liblrengine_cuda.so";

// Whether `address` is in the program itself. dladdr() names that by the text it was called by, which may be anything.
bool is_in_program(const void* address) {
    const auto contains = [](dl_phdr_info* object, std::size_t, void* wanted) {
        const auto place = reinterpret_cast<std::uintptr_t>(wanted);
        for (int i = 0; i < object->dlpi_phnum; ++i) {
            const auto& segment = object->dlpi_phdr[i];
            const std::uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
            if (segment.p_type == PT_LOAD && place >= begin && place - begin < segment.p_memsz) return 2;
        }
        return 1;  // the program is the first of all objects: no other one matters
    };
    return dl_iterate_phdr(contains, const_cast<void*>(address)) == 2;
}

// Beside the library that this code is in, or the program.
std::filesystem::path beside_this_code() {
    static const char here = 0;
    std::error_code error;
    if (is_in_program(&here)) return std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / kLibrary;
    Dl_info info{};
    if (dladdr(&here, &info) == 0 || info.dli_fname == nullptr) return kLibrary;
    return std::filesystem::path(info.dli_fname).parent_path() / kLibrary;
}

std::string library_path() {
    if (const char* chosen = std::getenv("LRENGINE_CUDA_LIBRARY"); chosen != nullptr && *chosen != '\0') return chosen;
    const std::filesystem::path beside = beside_this_code();
    std::error_code error;
    // Programs are often installed elsewhere than libraries: then the loader may know where. It loads the file once.
    const bool elsewhere = is_in_program(&kLibrary) && !std::filesystem::exists(beside, error);
    return elsewhere && dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL) != nullptr ? kLibrary : beside.string();
}

std::string last_error() {
    const char* text = dlerror();
    return text == nullptr ? "unknown error" : text;
}

template <typename Function>
Function find(void* library, const std::string& path, const char* name) {
    auto function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) {
        fail(ErrorCode::kDevice, path + " is not a backend of lrengine: it has no " + name +
                                     "; let LRENGINE_CUDA_LIBRARY name one, or unset it");
    }
    return function;
}

// Never closed: backends and the exceptions they throw may outlive any one engine.
void* load(const std::string& path) {
    // Without a slash the dynamic loader would look in its own directories instead.
    std::error_code error;
    if (path.find('/') != std::string::npos && !std::filesystem::exists(path, error)) {
        fail(ErrorCode::kDevice, "this build has no CUDA backend (" + path +
                                     " does not exist); build lrengine where nvcc is, let LRENGINE_CUDA_LIBRARY name " +
                                     "the file, or use device \"cpu\"");
    }
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        fail(ErrorCode::kDevice, "the CUDA backend cannot be loaded: " + last_error() +
                                     "; build lrengine anew, let LRENGINE_CUDA_LIBRARY name the file, or use device " +
                                     "\"cpu\"");
    }
    return library;
}

}  // namespace

std::unique_ptr<Backend> open_cuda(const std::string& device) {
    const std::string path = library_path();
    void* library = load(path);
    const int found = find<int (*)()>(library, path, "lrengine_cuda_interface")();
    if (found != kBackendInterface) {
        fail(ErrorCode::kDevice, path + " was built for another version of lrengine: its interface is " +
                                     std::to_string(found) + ", expected " + std::to_string(kBackendInterface) +
                                     "; install both from one build");
    }
    return std::unique_ptr<Backend>(
        find<Backend* (*)(const char*)>(library, path, "lrengine_cuda_open")(device.c_str()));
}

}  // namespace lrengine
