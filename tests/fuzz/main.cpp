// Without libFuzzer: runs the fuzzer on every file of the folders given, and on cuts and bit flips of each of them.
#include <cstdio>
#include <iterator>

#include "fuzz.h"

namespace {

std::vector<std::uint8_t> content_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// About `most` variants, evenly over the file: few enough for a test.
std::size_t run_variants(std::vector<std::uint8_t> content, std::size_t most) {
    std::size_t runs = 1;
    LLVMFuzzerTestOneInput(content.data(), content.size());
    const std::size_t step = content.size() / most + 1;
    for (std::size_t place = 0; place < content.size(); place += step, runs += 2) {
        const std::vector<std::uint8_t> cut(content.begin(), content.begin() + static_cast<std::ptrdiff_t>(place));
        LLVMFuzzerTestOneInput(cut.data(), cut.size());
        content[place] ^= static_cast<std::uint8_t>(1u << (place % 8));
        LLVMFuzzerTestOneInput(content.data(), content.size());
        content[place] ^= static_cast<std::uint8_t>(1u << (place % 8));
    }
    return runs;
}

}  // namespace

int main(int argc, char** argv) {
    std::size_t files = 0, runs = 0;
    for (int i = 1; i < argc; ++i) {
        for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
            runs += run_variants(content_of(entry.path()), 200);
            ++files;
        }
    }
    std::printf("%zu passed, %d failed\n", files, files == 0 ? 1 : 0);
    std::printf("%zu runs\n", runs);
    return files == 0 ? 1 : 0;
}
