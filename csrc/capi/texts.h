// What turns a request's text into ids and answers into text: the tokenizers of a model directory, where it has some.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lrengine/lrengine.h"
#include "runtime/engine.h"
#include "text/tokenizer.h"

namespace lrengine::capi {

// Immutable.
class Texts {
public:
    // Reads the tokenizers of the engine's directory. One of a kind that this build does not read is an Error only once
    // text is asked of it: ids work without. Throws Error(kModelFile) for one that is broken.
    Texts(const std::filesystem::path& directory, const Engine& engine);

    bool reads_source() const { return source_.tokenizer != nullptr; }
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
    struct Codec {
        std::unique_ptr<Tokenizer> tokenizer;
        std::string missing;  // why there is none
    };
    static constexpr std::string_view kPromptHere = "{prompt}";

    static Codec load(const std::filesystem::path& directory);
    const Codec& target() const { return fused_ ? llm_ : source_; }

    bool fused_;
    Codec source_, llm_;
    std::string template_;
};

}  // namespace lrengine::capi
