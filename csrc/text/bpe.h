// Byte-pair encoding: the pair of neighbours that was merged first in training is merged first, until none is left
// (Sennrich et al. 2016, section 3.2). With byte-level words and with SentencePiece's byte fallback.
#pragma once

#include <array>
#include <span>

#include "text/model.h"

namespace lrengine::text {

class Bpe final : public Model {
public:
    explicit Bpe(const JsonValue& description);
    void tokenize(std::string_view word, std::vector<std::int32_t>& ids) const override;

private:
    struct Merge {
        std::int32_t left = -1, right = -1;
        std::int32_t rank = 0, result = 0;
    };

    void read_merges(const JsonValue& list);
    void add_merge(std::string_view left, std::string_view right, std::int32_t rank, const JsonValue& entry);
    const Merge* find(std::int32_t left, std::int32_t right) const;
    std::optional<std::int32_t> character(std::string_view text) const;
    std::size_t characters(std::string_view word, std::int32_t* symbols) const;
    std::size_t merge_few(std::span<std::int32_t> symbols) const;
    std::size_t merge_many(std::span<std::int32_t> symbols) const;

    std::vector<Merge> merges_;                 // open hash table
    std::array<std::int32_t, 512> characters_;  // ids of the characters below U+0200, -1 for none
    std::int32_t unknown_ = -1;
    bool fuse_unknown_ = false;
    bool whole_words_ = false;         // ignore_merges: a word of the vocabulary is not cut
    std::vector<std::int32_t> bytes_;  // empty without byte_fallback
};

}  // namespace lrengine::text
