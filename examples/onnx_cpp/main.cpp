// Greedy generation from an ONNX export, with nothing but ONNX Runtime:
//
//     onnx_generate EXPORT --ids 5 6 7 [--prompt 8 9] [--max 32]
//
// prints the ids of the answer. Built with lrengine beside it, its tokenizers turn text into ids and back:
//
//     onnx_generate EXPORT --model MODEL_DIRECTORY --text "some text" [--max 32]
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "decoder.h"
#include "manifest.h"
#ifdef HAVE_LRENGINE
#include "text.h"
#endif

namespace {

struct Arguments {
    std::string directory, model, text;
    std::vector<std::int64_t> source, prompt;
    std::int64_t max_new_tokens = 32;
};

Arguments parse(int count, char** values) {
    Arguments arguments;
    std::string option;
    for (int i = 1; i < count; ++i) {
        const std::string value = values[i];
        if (value.rfind("--", 0) == 0) {
            option = value;
        } else if (option == "--ids" || option == "--prompt") {
            (option == "--ids" ? arguments.source : arguments.prompt).push_back(std::stoll(value));
        } else if (option == "--max") {
            arguments.max_new_tokens = std::stoll(value);
        } else if (option == "--model") {
            arguments.model = value;
        } else if (option == "--text") {
            arguments.text = value;
        } else {
            arguments.directory = value;
        }
    }
    if (arguments.directory.empty() || arguments.max_new_tokens < 1) {
        throw std::runtime_error("usage: onnx_generate EXPORT --ids 5 6 7 [--prompt 8 9] [--max 32]");
    }
    return arguments;
}

std::vector<std::int64_t> greedy(const Manifest& manifest, const Arguments& arguments) {
    std::vector<std::int64_t> fed = arguments.prompt;
    fed.insert(fed.end(), manifest.start.begin(), manifest.start.end());
    Decoder decoder(manifest, arguments.source, static_cast<std::int64_t>(fed.size()), arguments.max_new_tokens);
    const float* logits = decoder.read_mapped();
    for (const std::int64_t token : fed) logits = decoder.step(token);
    if (logits == nullptr) throw std::runtime_error("nothing to predict the first token from");
    std::vector<std::int64_t> answer;
    while (true) {
        const std::int64_t token = std::max_element(logits, logits + manifest.vocab_size) - logits;
        const auto& ends = manifest.end_tokens;
        if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
        answer.push_back(token);
        if (static_cast<std::int64_t>(answer.size()) == arguments.max_new_tokens || decoder.room() == 0) break;
        logits = decoder.step(token);
    }
    return answer;
}

}  // namespace

int main(int count, char** values) try {
    Arguments arguments = parse(count, values);
    const Manifest manifest = Manifest::load(arguments.directory);
#ifdef HAVE_LRENGINE
    if (!arguments.model.empty()) {
        const Text text(arguments.model);
        arguments.source = text.ids(arguments.text);
        std::printf("%s\n", text.of(greedy(manifest, arguments)).c_str());
        return 0;
    }
#endif
    for (const std::int64_t token : greedy(manifest, arguments)) std::printf("%lld ", static_cast<long long>(token));
    std::printf("\n");
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "onnx_generate: %s\n", error.what());
    return 1;
}
