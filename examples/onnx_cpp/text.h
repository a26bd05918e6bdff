// Text to ids and back with lrengine's tokenizers. The model directory is opened for them alone: its weights are mapped
// and never read.
#pragma once

#include <lrengine/lrengine.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

class Text {
public:
    explicit Text(const std::string& model) {
        lrengine_engine_options options = LRENGINE_ENGINE_OPTIONS_INIT;
        options.device = "cpu";
        check(lrengine_open(model.c_str(), &options, &engine_));
    }
    ~Text() { lrengine_close(engine_); }
    Text(const Text&) = delete;
    Text& operator=(const Text&) = delete;

    // With the special tokens of a source.
    std::vector<std::int64_t> ids(const std::string& text) const {
        std::size_t count = 0;
        check(lrengine_encode_text(engine_, LRENGINE_SOURCE, text.data(), text.size(), 1, nullptr, 0, &count));
        std::vector<std::int32_t> found(count);
        check(lrengine_encode_text(engine_, LRENGINE_SOURCE, text.data(), text.size(), 1, found.data(), count, &count));
        return {found.begin(), found.end()};
    }

    std::string of(const std::vector<std::int64_t>& ids) const {
        const std::vector<std::int32_t> narrow(ids.begin(), ids.end());
        std::size_t bytes = 0;
        check(lrengine_decode_ids(engine_, LRENGINE_TARGET, narrow.data(), narrow.size(), nullptr, 0, &bytes));
        std::string text(bytes, '\0');
        check(lrengine_decode_ids(engine_, LRENGINE_TARGET, narrow.data(), narrow.size(), text.data(), bytes, &bytes));
        return text;
    }

private:
    static void check(lrengine_status status) {
        if (status != LRENGINE_OK) throw std::runtime_error(lrengine_last_error());
    }

    lrengine_engine* engine_ = nullptr;
};
