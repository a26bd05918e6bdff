// The form without exceptions (built with -fno-exceptions -fno-rtti): log-probability of targets.
//     no_exceptions MODEL SOURCE TARGET
#include <cstdio>

#include "lines.h"

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: %s MODEL SOURCE TARGET\n", argv[0]);
        return 2;
    }
    const auto engine = lrengine::Engine::try_open(argv[1]);
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.message().c_str());
        return 1;
    }
    const auto info = (*engine).try_info();
    lrengine::Input input = input_of(argv[2], info.ok() && (*info).reads_source_text);
    input.target = input_of(argv[3], info.ok() && (*info).writes_text).source;
    const auto scores = (*engine).try_score({&input, 1});
    if (!scores) {
        std::fprintf(stderr, "%s\n", scores.message().c_str());
        return 1;
    }
    std::printf("%.4f\n", (*scores)[0].log_prob);
    return 0;
}
