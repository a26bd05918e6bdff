#include "text/post_processor.h"

#include <utility>

#include "text/vocabulary.h"

namespace lrengine::text {

namespace {

constexpr std::size_t kMostItems = 4096;

std::int32_t read_id(const JsonValue& value) {
    return static_cast<std::int32_t>(value.integer(0, Vocabulary::kMostIds - 1));
}

// The id of ["</s>", 2].
std::int32_t id_of_pair(const JsonValue& value) {
    const std::vector<JsonValue> pair = value.elements();
    if (pair.size() != 2) value.refuse("a token and its id");
    return read_id(pair[1]);
}

}  // namespace

PostProcessor::PostProcessor(const JsonValue& description) { add(description, 0); }

void PostProcessor::add(const JsonValue& description, int depth) {
    const JsonValue type = description.at("type");
    const std::string name = type.text();
    if (name == "ByteLevel") return;
    if (name == "Sequence") {
        for (const JsonValue& part : description.at("processors").elements()) add(part, depth + 1);
        return;
    }
    std::vector<Item> around;
    if (name == "RobertaProcessing" || name == "BertProcessing") {
        around = {{false, id_of_pair(description.at("cls"))}, {true, 0}, {false, id_of_pair(description.at("sep"))}};
    } else if (name == "TemplateProcessing") {
        for (const JsonValue& item : description.at("single").elements()) {
            if (const auto sequence = item.find("Sequence")) {
                if (sequence->at("id").text() != "A") sequence->at("id").refuse("A");
                around.push_back({true, 0});
                continue;
            }
            const std::string token = item.at("SpecialToken").at("id").text();
            for (const JsonValue& id : description.at("special_tokens").at(token).at("ids").elements()) {
                around.push_back({false, read_id(id)});
            }
        }
    } else {
        type.refuse_unsupported("TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel or Sequence");
    }
    wrap(around);
    if (items_.size() > kMostItems) description.refuse_unsupported("at most 4096 tokens around a text");
}

void PostProcessor::wrap(const std::vector<Item>& around) {
    std::vector<Item> result;
    for (const Item& item : around) {
        if (item.is_text) {
            result.insert(result.end(), items_.begin(), items_.end());
        } else {
            result.push_back(item);
        }
        if (result.size() > kMostItems) break;  // add() refuses
    }
    items_ = std::move(result);
}

std::vector<std::int32_t> PostProcessor::apply(std::vector<std::int32_t> ids, bool special_tokens) const {
    if (items_.size() == 1 && items_[0].is_text) return ids;
    std::vector<std::int32_t> result;
    result.reserve(ids.size() + items_.size());
    for (const Item& item : items_) {
        if (item.is_text) {
            result.insert(result.end(), ids.begin(), ids.end());
        } else if (special_tokens) {
            result.push_back(item.id);
        }
    }
    return result;
}

}  // namespace lrengine::text
