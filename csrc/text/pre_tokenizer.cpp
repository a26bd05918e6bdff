#include "text/pre_tokenizer.h"

#include <map>
#include <utility>

#include "text/byte_level.h"
#include "text/metaspace.h"
#include "text/replace.h"
#include "text/split.h"

namespace lrengine::text {

namespace {

class Sequence final : public PreTokenizer {
public:
    explicit Sequence(const JsonValue& description) {
        for (const JsonValue& part : description.at("pretokenizers").elements()) {
            parts_.push_back(read_pre_tokenizer(part));
        }
    }
    void apply(Words& words) const override {
        for (const auto& part : parts_) part->apply(words);
    }

private:
    std::vector<std::unique_ptr<PreTokenizer>> parts_;
};

std::unique_ptr<Split> split_by(const char* pattern, SplitBehavior behavior) {
    auto regex = std::make_shared<const Regex>(pattern);
    return std::make_unique<Split>([regex](std::string_view text) { return regex->find_all(text); }, behavior, false);
}

class ByteLevel final : public PreTokenizer {
public:
    explicit ByteLevel(const JsonValue& description) : prefix_space_(description.at("add_prefix_space").boolean()) {
        const auto use_regex = description.find("use_regex");
        if (use_regex && !use_regex->boolean()) return;
        // The pattern of GPT-2's encoder.
        words_ = split_by("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                          SplitBehavior::kIsolated);
    }

    void apply(Words& words) const override {
        Words result;
        result.text.reserve(words.text.size() * 3 / 2);
        std::vector<Regex::Span> cuts;
        std::string prefixed;
        for (const Words::Span& span : words.spans) {
            std::string_view word = words.word(span);
            if (prefix_space_ && !word.starts_with(' ')) {
                prefixed.clear();
                prefixed.push_back(' ');
                prefixed += word;
                word = prefixed;
            }
            cuts.clear();
            if (words_) {
                words_->cut(word, cuts);
            } else {
                cuts.emplace_back(0, word.size());
            }
            for (const auto& [begin, end] : cuts) {
                const std::size_t start = result.text.size();
                append_byte_letters(result.text, word.substr(begin, end - begin));
                result.spans.push_back({start, result.text.size(), span.at_start && begin == 0});
            }
        }
        words = std::move(result);
    }

private:
    bool prefix_space_;
    std::unique_ptr<const Split> words_;
};

class MetaspaceWords final : public PreTokenizer {
public:
    explicit MetaspaceWords(const JsonValue& description) : metaspace_(description) {}

    void apply(Words& words) const override {
        Words result;
        result.text.reserve(words.text.size() * 3 / 2);
        for (const Words::Span& span : words.spans) {
            const std::size_t start = result.text.size();
            metaspace_.append_marked(words.word(span), span.at_start, result.text);
            if (!metaspace_.splits()) {
                result.spans.push_back({start, result.text.size(), span.at_start});
                continue;
            }
            // Every mark begins a word.
            std::size_t begin = start;
            while (begin < result.text.size()) {
                std::size_t end = result.text.find(metaspace_.mark(), begin + 1);
                end = end == std::string::npos ? result.text.size() : end;
                result.spans.push_back({begin, end, span.at_start && begin == start});
                begin = end;
            }
        }
        words = std::move(result);
    }

private:
    Metaspace metaspace_;
};

std::unique_ptr<PreTokenizer> read_split(const JsonValue& description) {
    static const std::map<std::string, SplitBehavior> kBehaviors = {
        {"Isolated", SplitBehavior::kIsolated},
        {"Removed", SplitBehavior::kRemoved},
        {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
        {"MergedWithNext", SplitBehavior::kMergedWithNext},
        {"Contiguous", SplitBehavior::kContiguous},
    };
    const JsonValue behavior = description.at("behavior");
    const auto found = kBehaviors.find(behavior.text());
    if (found == kBehaviors.end())
        behavior.refuse("Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
    auto pattern = std::make_shared<const Pattern>(description.at("pattern"));
    return std::make_unique<Split>([pattern](std::string_view text) { return pattern->find_all(text); }, found->second,
                                   description.at("invert").boolean());
}

}  // namespace

std::unique_ptr<PreTokenizer> read_pre_tokenizer(const JsonValue& description) {
    const JsonValue type = description.at("type");
    const std::string name = type.text();
    if (name == "Sequence") return std::make_unique<Sequence>(description);
    if (name == "Metaspace") return std::make_unique<MetaspaceWords>(description);
    if (name == "ByteLevel") return std::make_unique<ByteLevel>(description);
    if (name == "Split") return read_split(description);
    if (name == "WhitespaceSplit") return split_by("\\s", SplitBehavior::kRemoved);
    if (name == "Digits") {
        const bool single = description.at("individual_digits").boolean();
        return split_by("\\p{N}", single ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
    }
    type.refuse_unsupported("Sequence, Metaspace, ByteLevel, Split, Digits or WhitespaceSplit");
}

}  // namespace lrengine::text
