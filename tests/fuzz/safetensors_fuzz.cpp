// A safetensors file, header and data.
#include "core/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::expect_answer([&] {
        // On the heap and no larger, so that a read past the end is one past an allocation.
        const std::vector<std::byte> file(reinterpret_cast<const std::byte*>(data),
                                          reinterpret_cast<const std::byte*>(data) + size);
        unsigned sum = 0;
        for (const lrengine::TensorRecord& tensor : lrengine::read_safetensors(file, "model.safetensors")) {
            const auto* bytes = static_cast<const unsigned char*>(tensor.data);
            for (std::size_t i = 0; i < tensor.bytes; ++i) sum += bytes[i];
        }
        asm volatile("" : : "r"(sum));  // so that the reads are made
    });
    return 0;
}
