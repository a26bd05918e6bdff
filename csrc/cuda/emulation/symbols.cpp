// Names for addresses of code, from the symbol tables of the loaded files: kernels and their helpers are mostly local
// symbols, which the dynamic linker does not know.
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime.h"

namespace emulation {

namespace {

struct Symbol {
    std::uintptr_t start, bytes;
    std::string name;
};

template <typename T>
std::vector<T> read_table(std::ifstream& file, std::uint64_t offset, std::uint64_t bytes) {
    std::vector<T> table(bytes / sizeof(T));
    file.seekg(static_cast<std::streamoff>(offset));
    file.read(reinterpret_cast<char*>(table.data()), static_cast<std::streamsize>(table.size() * sizeof(T)));
    return file ? table : std::vector<T>{};
}

// The functions of an ELF file, by address relative to where it is loaded. Empty for anything unexpected.
std::vector<Symbol> functions_of_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    ElfW(Ehdr) header{};
    file.read(reinterpret_cast<char*>(&header), sizeof(header));
    if (!file || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
    const auto sections = read_table<ElfW(Shdr)>(file, header.e_shoff, header.e_shnum * sizeof(ElfW(Shdr)));
    std::vector<Symbol> functions;
    for (const auto& section : sections) {
        if (section.sh_type != SHT_SYMTAB || section.sh_link >= sections.size()) continue;
        const auto symbols = read_table<ElfW(Sym)>(file, section.sh_offset, section.sh_size);
        auto names = read_table<char>(file, sections[section.sh_link].sh_offset, sections[section.sh_link].sh_size);
        names.push_back('\0');
        for (const auto& symbol : symbols) {
            if ((symbol.st_info & 0xf) != STT_FUNC || symbol.st_value == 0 || symbol.st_name >= names.size()) continue;
            functions.push_back({symbol.st_value, symbol.st_size, names.data() + symbol.st_name});
        }
    }
    std::sort(functions.begin(), functions.end(), [](const Symbol& a, const Symbol& b) { return a.start < b.start; });
    return functions;
}

std::string demangle(const std::string& name) {
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status),
                                                           &std::free);
    std::string plain = status == 0 ? text.get() : name;
    for (const std::string noise : {"(anonymous namespace)::", "void "}) {
        for (std::size_t at = plain.find(noise); at != std::string::npos; at = plain.find(noise)) {
            plain.erase(at, noise.size());
        }
    }
    // Arguments say nothing that the template's do not.
    if (const std::size_t arguments = plain.rfind('('); arguments != std::string::npos && arguments > 0) {
        plain.resize(arguments);
    }
    return plain;
}

}  // namespace

std::string symbol_at(const void* address) {
    static std::map<std::string, std::vector<Symbol>> modules;
    Dl_info info{};
    if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return "unknown code";
    const auto offset = reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(info.dli_fbase);
    const std::string path = info.dli_fname;
    const auto [module, is_new] = modules.try_emplace(path);
    if (is_new) module->second = functions_of_file(path.find('/') == std::string::npos ? "/proc/self/exe" : path);
    for (const Symbol& symbol : module->second) {
        if (offset - symbol.start < std::max<std::uintptr_t>(symbol.bytes, 1)) return demangle(symbol.name);
    }
    char text[32];
    std::snprintf(text, sizeof(text), "+0x%llx", static_cast<unsigned long long>(offset));
    return path.substr(path.rfind('/') + 1) + text;
}

}  // namespace emulation
