// config.json of a model directory.
#include "fuzz.h"
#include "models/config.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const model_files::TemporaryDirectory directory;
    directory.write("config.json", std::string(fuzz::text_of(data, size)));
    fuzz::expect_answer([] { lrengine::read_config(directory.path()); });
    return 0;
}
