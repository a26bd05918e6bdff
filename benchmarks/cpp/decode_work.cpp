// Decodes on one thread and does nothing else: decode_work DIR SOURCE NEW_TOKENS. Its instructions are counted by
// benchmarks/work.py, which takes the difference of two lengths.
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "runtime/engine.h"

int main(int argc, char** argv) {
    using namespace lrengine;
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s DIR SOURCE NEW_TOKENS\n", argv[0]);
        return 2;
    }
    try {
        EngineOptions options;
        options.device = "cpu";
        options.threads = 1;
        const auto engine = Engine::load(argv[1], options);
        Ids source(static_cast<std::size_t>(std::atoi(argv[2])));
        std::iota(source.begin(), source.end(), 20);
        GenerationOptions generation;
        generation.max_new_tokens = std::atoi(argv[3]);
        generation.min_new_tokens = generation.max_new_tokens;
        const auto session = engine->start({{source, {}, {}}}, generation, {});
        while (!session->done()) session->step();
        std::printf("%zu\n", session->results().at(0).at(0).tokens.size());
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
