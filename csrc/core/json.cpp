#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/mapped_file.h"

namespace lrengine {

using nlohmann::json;

namespace {

// Empties containers from the inside out: json's own destructor of one with members takes memory, and would end the
// process where there is none. As deep as JsonLimits lets a document be.
void dismantle(json& value) noexcept {
    if (!value.is_structured()) return;
    for (json& member : value) dismantle(member);
    value.clear();
}

}  // namespace

struct JsonValue::Document {
    std::string file;
    json root;

    ~Document() { dismantle(root); }
};

namespace {

// Long names and numbers of a hostile file must not make long messages, nor a zero in them cut messages short: both
// ends, which tell most.
std::string shortened(std::string text) {
    constexpr std::size_t kEnd = 100;
    if (text.size() > 2 * kEnd + 3) text = text.substr(0, kEnd) + "..." + text.substr(text.size() - kEnd);
    std::replace(text.begin(), text.end(), '\0', ' ');
    return text;
}

std::string in_quotes(std::string_view text) {
    constexpr std::size_t kShown = 60;
    const std::string shown(text.substr(0, kShown));
    return json(shown).dump(-1, ' ', true, json::error_handler_t::replace) + (text.size() > kShown ? "..." : "");
}

// What a message says was found: the value itself when it is short, its kind otherwise.
std::string shown(const json& value) {
    if (value.is_object()) return "an object of " + std::to_string(value.size());
    if (value.is_array()) return "a list of " + std::to_string(value.size());
    if (value.is_string()) return in_quotes(value.get_ref<const std::string&>());
    return value.dump();
}

// Builds the document event by event, so that the limits hold before memory is taken.
class Builder final : public nlohmann::json_sax<json> {
public:
    Builder(json& root, const JsonLimits& limits) : root_(root), limits_(limits) {}

    const std::string& problem() const { return problem_; }

    bool null() override { return add(nullptr) != nullptr; }
    bool boolean(bool value) override { return add(value) != nullptr; }
    bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
    bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
    bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
    bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
    bool binary(binary_t&) override { return refuse("binary data"); }

    bool start_object(std::size_t) override { return open(json::object()); }
    bool start_array(std::size_t) override { return open(json::array()); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(string_t& name) override {
        if (open_.back()->contains(name)) return refuse("the key " + in_quotes(name) + " twice in one object");
        key_ = std::move(name);
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
        // Drops nlohmann's "[json.exception.parse_error.101] ".
        const std::string text = error.what();
        const std::size_t end = text.find("] ");
        return refuse("not JSON at byte " + std::to_string(position) + ": " +
                      shortened(text.substr(end == std::string::npos ? 0 : end + 2)));
    }

private:
    bool refuse(std::string problem) {
        problem_ = std::move(problem);
        return false;
    }

    json* add(json value) {
        if (++values_ > limits_.values) {
            refuse("more than " + std::to_string(limits_.values) + " values");
            return nullptr;
        }
        if (open_.empty()) {
            root_ = std::move(value);
            return &root_;
        }
        json& parent = *open_.back();
        if (parent.is_array()) {
            parent.push_back(std::move(value));
            return &parent.back();
        }
        return &(parent[key_] = std::move(value));
    }

    // Containers that are open do not move: only the innermost one grows.
    bool open(json container) {
        if (open_.size() >= static_cast<std::size_t>(limits_.depth)) {
            return refuse("nesting deeper than " + std::to_string(limits_.depth));
        }
        json* added = add(std::move(container));
        if (added != nullptr) open_.push_back(added);
        return added != nullptr;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    json& root_;
    const JsonLimits& limits_;
    std::vector<json*> open_;
    std::string key_;
    std::string problem_;
    std::size_t values_ = 0;
};

void require_size(std::size_t bytes, const std::string& file, const JsonLimits& limits) {
    if (bytes <= limits.bytes) return;
    fail(ErrorCode::kModelFile, file + ": found " + std::to_string(bytes) + " bytes of JSON, expected at most " +
                                    std::to_string(limits.bytes));
}

}  // namespace

JsonValue::JsonValue(std::shared_ptr<const Document> document, const json* value, std::string field)
    : document_(std::move(document)), value_(value), field_(std::move(field)) {}

JsonValue JsonValue::parse(std::string_view text, const std::string& file, const JsonLimits& limits) {
    require_size(text.size(), file, limits);
    auto document = std::make_shared<Document>();
    document->file = file;
    Builder builder(document->root, limits);
    if (!json::sax_parse(text.begin(), text.end(), &builder)) {
        fail(ErrorCode::kModelFile, file + ": found " + builder.problem() + ", expected plain JSON");
    }
    const json* root = &document->root;
    return {std::move(document), root, ""};
}

JsonValue JsonValue::read(const std::filesystem::path& path, const JsonLimits& limits) {
    const MappedFile file = MappedFile::open(path);
    const std::span<const std::byte> bytes = file.bytes();
    require_size(bytes.size(), path.string(), limits);
    file.read_ahead();
    return parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string(), limits);
}

std::string JsonValue::description(const std::string& expected) const {
    return document_->file + ": " + (field_.empty() ? "" : shortened(field_) + ": ") + "found " + shown(*value_) +
           ", expected " + expected;
}

void JsonValue::refuse(const std::string& expected) const { fail(ErrorCode::kModelFile, description(expected)); }

void JsonValue::refuse_unsupported(const std::string& supported) const {
    fail(ErrorCode::kUnsupported, description(supported));
}

const json& JsonValue::object() const {
    if (!value_->is_object()) refuse("an object");
    return *value_;
}

JsonValue JsonValue::at(const std::string& name) const {
    const auto member = object().find(name);
    const std::string field = field_.empty() ? name : field_ + "." + name;
    if (member == value_->end()) {
        fail(ErrorCode::kModelFile, document_->file + ": " + shortened(field) + ": found nothing, expected this field");
    }
    return {document_, &*member, field};
}

std::optional<JsonValue> JsonValue::find(const std::string& name) const {
    const auto member = object().find(name);
    if (member == value_->end() || member->is_null()) return std::nullopt;
    return at(name);
}

std::vector<std::string> JsonValue::keys() const {
    std::vector<std::string> names;
    names.reserve(object().size());
    for (auto member = value_->begin(); member != value_->end(); ++member) names.push_back(member.key());
    return names;
}

std::vector<JsonValue> JsonValue::elements() const {
    if (!value_->is_array()) refuse("a list");
    std::vector<JsonValue> list;
    list.reserve(value_->size());
    for (const json& element : *value_) {
        list.push_back({document_, &element, field_ + "[" + std::to_string(list.size()) + "]"});
    }
    return list;
}

std::size_t JsonValue::size() const {
    if (!value_->is_array()) refuse("a list");
    return value_->size();
}

void JsonValue::for_each(const std::function<void(const JsonValue&)>& visit) const {
    const std::size_t count = size();
    JsonValue element(document_, nullptr, "");
    for (std::size_t i = 0; i < count; ++i) {
        element.value_ = &(*value_)[i];
        element.field_.assign(field_).append("[").append(std::to_string(i)).append("]");
        visit(element);
    }
}

void JsonValue::for_each_member(const std::function<void(const std::string&, const JsonValue&)>& visit) const {
    JsonValue value(document_, nullptr, "");
    for (auto member = object().begin(); member != value_->end(); ++member) {
        value.value_ = &*member;
        value.field_.assign(field_).append(".").append(member.key());
        visit(member.key(), value);
    }
}

std::string_view JsonValue::text_view() const {
    if (!value_->is_string()) refuse("a string");
    return value_->get_ref<const std::string&>();
}

std::pair<std::string_view, std::string_view> JsonValue::two_texts() const {
    if (!value_->is_array() || value_->size() != 2 || !(*value_)[0].is_string() || !(*value_)[1].is_string()) {
        refuse("a list of two strings");
    }
    return {(*value_)[0].get_ref<const std::string&>(), (*value_)[1].get_ref<const std::string&>()};
}

std::pair<std::string_view, double> JsonValue::text_and_number() const {
    if (!value_->is_array() || value_->size() != 2 || !(*value_)[0].is_string() || !(*value_)[1].is_number() ||
        !std::isfinite((*value_)[1].get<double>())) {
        refuse("a list of a string and a number");
    }
    return {(*value_)[0].get_ref<const std::string&>(), (*value_)[1].get<double>()};
}

std::int64_t JsonValue::integer(std::int64_t low, std::int64_t high) const {
    const bool fits =
        value_->is_number_unsigned() ? value_->get<std::uint64_t>() <= INT64_MAX : value_->is_number_integer();
    const std::int64_t number = fits ? value_->get<std::int64_t>() : 0;
    if (!fits || number < low || number > high) {
        refuse("an integer in [" + std::to_string(low) + ", " + std::to_string(high) + "]");
    }
    return number;
}

double JsonValue::number() const {
    if (!value_->is_number() || !std::isfinite(value_->get<double>())) refuse("a number");
    return value_->get<double>();
}

double JsonValue::positive_number() const {
    if (!(number() > 0.0)) refuse("a number above 0");
    return number();
}

bool JsonValue::boolean() const {
    if (!value_->is_boolean()) refuse("true or false");
    return value_->get<bool>();
}

std::string JsonValue::text() const {
    if (!value_->is_string()) refuse("a string");
    return value_->get<std::string>();
}

bool JsonValue::is_list() const { return value_->is_array(); }

}  // namespace lrengine
