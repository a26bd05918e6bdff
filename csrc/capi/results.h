// What requests answer with, as the C interface hands it out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "decode/search.h"
#include "lrengine/lrengine.h"
#include "text/target_text.h"

struct lrengine_generations {
    struct Answer {
        lrengine::Hypothesis hypothesis;
        std::optional<std::string> text;
    };
    std::vector<std::vector<Answer>> inputs;
};

struct lrengine_arrays {
    struct Array {
        std::vector<float> data;
        std::vector<std::int64_t> shape;
    };
    std::vector<Array> arrays;
};

namespace lrengine::capi {

// texts: one an input, or none.
lrengine_generations* make_generations(std::vector<std::vector<Hypothesis>> results,
                                       const std::vector<TargetText>& texts);

}  // namespace lrengine::capi
