// tokenizer.json, and text through whatever tokenizer it makes.
#include "fuzz.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const model_files::TemporaryDirectory directory;
    directory.write("tokenizer.json", std::string(fuzz::text_of(data, size)));
    fuzz::expect_answer([&] {
        const auto tokenizer = lrengine::Tokenizer::load(directory.path());
        for (const std::string_view text : {std::string_view("the fox  \xe4\xbb\x8a\xe5\xa4\xa9 1234's\n\t\xff<s>"),
                                            fuzz::text_of(data, std::min<std::size_t>(size, 200))}) {
            tokenizer->decode(tokenizer->encode(text, true));
        }
        const std::vector<std::int32_t> ids = {-1, 0, 1, 2, 3, 1 << 30, static_cast<std::int32_t>(tokenizer->size())};
        tokenizer->decode(ids);
        for (const std::int32_t id : ids) tokenizer->piece(id);
    });
    return 0;
}
