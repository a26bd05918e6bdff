// Unigram: of all ways to cut a word into pieces, the one with the largest sum of scores (Kudo 2018, section 3.2).
#pragma once

#include "text/model.h"
#include "text/prefix_trie.h"

namespace lrengine::text {

class Unigram final : public Model {
public:
    explicit Unigram(const JsonValue& description);
    void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const override;

private:
    void emit(std::string_view piece, std::vector<std::int32_t>& ids) const;

    PrefixTrie trie_;
    std::vector<double> scores_;  // by id
    std::int32_t unknown_ = -1;
    double unknown_score_ = 0;
    std::vector<std::int32_t> bytes_;  // empty without byte_fallback
};

}  // namespace lrengine::text
