// The index of a sharded checkpoint, beside two good shards.
#include "core/checkpoint.h"
#include "fuzz.h"

using namespace model_files;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const TemporaryDirectory directory;
    static const bool written = [] {
        directory.write("a.safetensors", safetensors_bytes({float_tensor("a", {2}, {1, 2})}));
        directory.write("b.safetensors", safetensors_bytes({float_tensor("b", {1, 2}, {3, 4})}));
        return true;
    }();
    if (written) directory.write("model.safetensors.index.json", std::string(fuzz::text_of(data, size)));
    fuzz::expect_answer([] { lrengine::Checkpoint::open(directory.path()).names(); });
    return 0;
}
