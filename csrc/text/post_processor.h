// The special tokens that a tokenizer puts around a text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/json.h"

namespace lrengine::text {

class PostProcessor {
public:
    PostProcessor() = default;  // nothing around
    // TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel (which moves offsets only) and a Sequence of
    // them. Throws Error(kModelFile) for a broken description, Error(kUnsupported) for another kind.
    explicit PostProcessor(const JsonValue& description);

    std::vector<std::int32_t> apply(std::vector<std::int32_t> ids, bool special_tokens) const;

private:
    struct Item {
        bool is_text;
        std::int32_t id;
    };
    void add(const JsonValue& description, int depth);
    void wrap(const std::vector<Item>& around);

    std::vector<Item> items_ = {{true, 0}};
};

}  // namespace lrengine::text
