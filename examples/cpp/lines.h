// Lines as the examples read them: text, or ids between spaces for models without a tokenizer.
#pragma once

#include <lrengine/lrengine.hpp>
#include <sstream>
#include <string>
#include <vector>

inline lrengine::Input input_of(const std::string& line, bool reads_text) {
    if (reads_text) return line;
    std::istringstream numbers(line);
    std::vector<std::int32_t> ids;
    for (std::int32_t id = 0; numbers >> id;) ids.push_back(id);
    return ids;
}

inline std::string text_of(const lrengine::Generation& answer, bool writes_text) {
    if (writes_text) return answer.text;
    std::string ids;
    for (const std::int32_t id : answer.tokens) ids += (ids.empty() ? "" : " ") + std::to_string(id);
    return ids;
}
