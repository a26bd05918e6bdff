// Tiny model directories for tests that see lrengine through its public headers alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lrengine/lrengine.h"

namespace capi_models {

// What the engine itself generates, for comparison.
struct Reference {
    std::vector<std::int32_t> tokens;
    std::vector<float> log_probs;
};

// A directory that is gone when the object is.
class Model {
public:
    enum class Kind { kSwcm, kFusion, kClassifier };
    explicit Model(Kind kind);
    ~Model();

    // A tokenizer whose pieces are letters and single bytes of characters, so that texts are unsure of their ends.
    void add_tokenizer();
    // The same for the LLM of a kFusion model, which is asked through the template.
    void add_prompt_template(const std::string& text);
    std::string path() const;
    // Greedy, at most `tokens` tokens, after a prefix.
    Reference greedy(const std::vector<std::int32_t>& source, std::int64_t tokens,
                     const std::vector<std::int32_t>& prefix = {}) const;
    std::vector<float> score(const std::vector<std::int32_t>& source, const std::vector<std::int32_t>& target) const;
    std::vector<float> classify(const std::vector<std::int32_t>& source) const;  // log-probabilities
    std::vector<float> encode(const std::vector<std::int32_t>& source) const;    // the last layer

private:
    struct Files;
    std::unique_ptr<Files> files_;
};

// Whether the options say what the engine does when nothing is said (decode/options.h).
bool are_the_engines_defaults(const lrengine_generate_options& options);

// Ids of the tiny vocabulary.
std::vector<std::int32_t> ids(std::size_t length, unsigned seed);

}  // namespace capi_models
