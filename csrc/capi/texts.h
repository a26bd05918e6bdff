// What turns a request's text into ids and answers into text: the tokenizers of a model directory, where it has some.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/background.h"
#include "lrengine/lrengine.h"
#include "runtime/engine.h"
#include "text/tokenizer.h"

namespace lrengine::capi {

// A tokenizer, or why there is none.
struct Codec {
    std::unique_ptr<Tokenizer> tokenizer;
    std::string missing;
};

// What reads and writes a model's text. `llm` is a layer_fusion model's second tokenizer.
struct Codecs {
    Codec source, llm;
};

// The tokenizers of a directory while they are read: on a thread beside the weights, unless the caller wants one
// thread. A large tokenizer.json (250,000 pieces, 17 MB) takes longer than to map and check a gigabyte of weights.
class TextsBeingRead {
public:
    TextsBeingRead(const std::filesystem::path& directory, int threads);

private:
    friend class Texts;
    std::filesystem::path directory_;
    bool fused_;
    Background<Codecs> codecs_;
};

// Immutable.
class Texts {
public:
    // Waits for the tokenizers of the engine's directory. One of a kind that this build does not read is an Error only
    // once text is asked of it: ids work without. Throws Error(kModelFile) for one that is broken.
    Texts(TextsBeingRead& reading, const Engine& engine);

    bool reads_source() const { return codecs_.source.tokenizer != nullptr; }
    bool writes() const { return target().tokenizer != nullptr; }

    // Throws Error(kUnsupported) when there is none.
    const Tokenizer& of(lrengine_side side) const;
    // The target's tokenizer, or null.
    const Tokenizer* writer() const { return target().tokenizer.get(); }

    // Text in the model's prompt template, as ids.
    Ids prompt(std::string_view text) const;
    // Whether a request without a prompt has one all the same: what the template says around it.
    bool has_template() const { return template_ != kPromptHere; }

private:
    static constexpr std::string_view kPromptHere = "{prompt}";

    const Codec& target() const { return fused_ ? codecs_.llm : codecs_.source; }

    bool fused_;
    Codecs codecs_;
    std::string template_;
};

}  // namespace lrengine::capi
