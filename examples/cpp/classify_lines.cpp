// A classifier as a service of another program: a line in, a line out, "LABEL <tab> PROBABILITY <tab> microseconds".
//     classify_lines MODEL [LABEL...]       labels: for models that generate; a classifier has its own
// A line that cannot be classified answers "! REASON" and the loop goes on.
#include <chrono>
#include <iostream>

#include "lines.h"

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " MODEL [LABEL...] < lines\n";
        return 2;
    }
    const lrengine::Engine engine(argv[1]);
    const lrengine::EngineInfo info = engine.info();
    const std::vector<std::string> labels(argv + 2, argv + argc);
    lrengine::Limits limits;
    limits.deadline = std::chrono::seconds(10);
    for (std::string line; std::getline(std::cin, line);) {
        const std::vector<lrengine::Input> inputs = {input_of(line, info.reads_source_text)};
        const auto began = std::chrono::steady_clock::now();
        const auto found = engine.try_classify(inputs, labels, limits);
        const auto took = std::chrono::steady_clock::now() - began;
        if (!found) {
            std::cout << "! " << found.message() << std::endl;
            continue;
        }
        const lrengine::Classification& best = (*found)[0];
        std::cout << best.label << '\t' << best.probability << '\t'
                  << std::chrono::duration_cast<std::chrono::microseconds>(took).count() << std::endl;
    }
    return 0;
} catch (const lrengine::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
