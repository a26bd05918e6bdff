// From the pieces of ids back to text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"

namespace lrengine::text {

class Decoder {
public:
    virtual ~Decoder() = default;
    // Changes pieces, and how many there are; the text is all of them, one after the other. Throws
    // Error(kInvalidArgument) when that would be longer than `most` bytes.
    virtual void apply(std::vector<std::string>& pieces, std::size_t most) const = 0;
};

// Sequence, Metaspace, ByteLevel, Replace, ByteFallback, Fuse, Strip. Throws Error(kModelFile) for a broken
// description, Error(kUnsupported) for another kind.
std::unique_ptr<Decoder> read_decoder(const JsonValue& description);

}  // namespace lrengine::text
