// A console translator: every line of standard input is a source, its translation appears as it is generated.
//     translate MODEL [--beams N] [--tag TEXT]      with a model of make demo:  --tag "<2ug> "
#include <cstdlib>
#include <iostream>

#include "lines.h"

namespace {

void usage(const char* program) {
    std::cerr << "usage: " << program << " MODEL [--beams N] [--tag TEXT] < lines\n";
    std::exit(2);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2 || argc % 2 != 0) usage(argv[0]);
    lrengine::GenerateOptions options;
    options.max_new_tokens = 128;
    std::string tag;
    for (int i = 2; i < argc; i += 2) {
        const std::string name = argv[i];
        if (name == "--beams") {
            options.num_beams = std::atoi(argv[i + 1]);
        } else if (name == "--tag") {
            tag = argv[i + 1];
        } else {
            usage(argv[0]);
        }
    }

    const lrengine::Engine engine(argv[1]);
    const lrengine::EngineInfo info = engine.info();
    std::cerr << info.model_type << " on " << info.device << ", " << info.dtype << ", "
              << engine.memory().weight_bytes / 1000000 << " MB of weights\n";
    for (std::string line; std::getline(std::cin, line);) {
        const lrengine::Input input = input_of(tag + line, info.reads_source_text);
        if (options.num_beams > 1) {
            std::cout << text_of(engine.generate({input}, options)[0], info.writes_text) << std::endl;
            continue;
        }
        const auto show = [&](const lrengine::Token& token) {
            if (info.writes_text) {
                std::cout << token.text << std::flush;
            } else {
                std::cout << token.token << ' ';
            }
            return true;
        };
        engine.stream(input, show, options);
        std::cout << std::endl;
    }
    return 0;
} catch (const lrengine::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
