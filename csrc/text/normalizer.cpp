#include "text/normalizer.h"

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "text/base64.h"
#include "text/charsmap.h"
#include "text/growth.h"
#include "text/normal_forms.h"
#include "text/replace.h"
#include "text/unicode.h"

namespace lrengine::text {

namespace {

// A change of the text that leaves its beginning where it was.
class Change final : public Normalizer {
public:
    // Gets the text and how long it may become; need not look at that where it grows a few times at most.
    using Function = std::function<std::string(std::string_view, std::size_t)>;

    explicit Change(Function change) : change_(std::move(change)) {}
    void apply(Stretch& stretch) const override {
        stretch.text = change_(stretch.text, stretch.most_bytes);
        check_growth(stretch.text.size(), stretch.most_bytes);
    }

private:
    Function change_;
};

class Sequence final : public Normalizer {
public:
    Sequence(const JsonValue& description, const std::string& file) {
        for (const JsonValue& part : description.at("normalizers").elements()) {
            parts_.push_back(read_normalizer(part, file));
        }
    }
    void apply(Stretch& stretch) const override {
        for (const auto& part : parts_) part->apply(stretch);
    }

private:
    std::vector<std::unique_ptr<Normalizer>> parts_;
};

class Strip final : public Normalizer {
public:
    explicit Strip(const JsonValue& description)
        : left_(description.at("strip_left").boolean()), right_(description.at("strip_right").boolean()) {}

    void apply(Stretch& stretch) const override {
        const std::string_view text = stretch.text;
        std::size_t begin = 0, end = text.size();
        while (left_ && begin < end) {
            std::size_t next = begin;
            if (!is_space(next_character(text, next))) break;
            begin = next;
        }
        while (right_ && end > begin) {
            std::size_t before = end;
            if (!is_space(previous_character(text, before))) break;
            end = before;
        }
        stretch.at_start = stretch.at_start && begin == 0;
        stretch.text = std::string(text.substr(begin, end - begin));
    }

private:
    bool left_, right_;
};

std::unique_ptr<Normalizer> change(Change::Function made) { return std::make_unique<Change>(std::move(made)); }

std::unique_ptr<Normalizer> precompiled(const JsonValue& description, const std::string& file) {
    const JsonValue map = description.at("precompiled_charsmap");
    const auto bytes = decode_base64(map.text_view());
    if (!bytes) map.refuse("base64");
    return change([charsmap = std::make_shared<const Charsmap>(*bytes, file)](std::string_view text, std::size_t most) {
        return charsmap->apply(text, most);
    });
}

}  // namespace

std::unique_ptr<Normalizer> read_normalizer(const JsonValue& description, const std::string& file) {
    static const std::map<std::string, NormalForm> kForms = {
        {"NFC", NormalForm::kNfc}, {"NFD", NormalForm::kNfd}, {"NFKC", NormalForm::kNfkc}, {"NFKD", NormalForm::kNfkd}};
    const JsonValue type = description.at("type");
    const std::string name = type.text();
    if (name == "Sequence") return std::make_unique<Sequence>(description, file);
    if (name == "Precompiled") return precompiled(description, file);
    if (name == "Strip") return std::make_unique<Strip>(description);
    if (name == "Lowercase") return change([](std::string_view text, std::size_t) { return lower_case(text); });
    if (name == "Replace") {
        return change([replace = std::make_shared<const Replace>(description)](
                          std::string_view text, std::size_t most) { return replace->apply(text, most); });
    }
    if (name == "Prepend") {
        return change([prefix = description.at("prepend").text()](std::string_view text, std::size_t) {
            return text.empty() ? std::string() : prefix + std::string(text);
        });
    }
    if (const auto form = kForms.find(name); form != kForms.end()) {
        return change([form = form->second](std::string_view text, std::size_t) { return normal_form(text, form); });
    }
    type.refuse_unsupported("a normalizer of csrc/text/normalizer.h");
}

}  // namespace lrengine::text
