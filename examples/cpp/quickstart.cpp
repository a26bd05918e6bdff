// A translation, a label with its probability, and tokens as they come, from the models that `make demo` leaves behind.
#include <iostream>
#include <lrengine/lrengine.hpp>

int main(int argc, char** argv) try {
    const std::string models = argc > 1 ? argv[1] : "demo/models";
    const lrengine::Engine translator(models + "/swcm"), classifier(models + "/classifier");

    lrengine::GenerateOptions options;
    options.num_beams = 4;
    options.max_new_tokens = 32;
    std::cout << translator.generate({"<2ug> 打开文件"}, options)[0].text << '\n';

    const lrengine::Classification answer = classifier.classify({"күлімсіреген бет"})[0];
    std::cout << answer.label << ' ' << answer.probability << '\n';

    options.num_beams = 1;
    const auto show = [](const lrengine::Token& token) {
        std::cout << token.text << std::flush;
        return true;  // false ends it
    };
    translator.stream("<2mn> 打开文件", show, options);
    std::cout << '\n';
    return 0;
} catch (const lrengine::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
