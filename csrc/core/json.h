// JSON of model files, which nobody has checked yet: read strictly, and accessed with messages that name file and
// field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lrengine {

struct JsonLimits {
    std::size_t bytes = std::size_t{16} << 20;
    int depth = 32;
    std::size_t values = std::size_t{4} << 20;  // bounds memory: a value takes 16 bytes and more for 2 of text
};

// A place in a document: the value, and the way to it for messages. Copies share the document. Every accessor throws
// Error(kModelFile, "FILE: FIELD: found X, expected Y") when the value is not what it asks for.
class JsonValue {
public:
    // Refuses bad syntax, bad UTF-8, duplicate keys and whatever is past the limits. `file` is for messages.
    static JsonValue parse(std::string_view text, const std::string& file, const JsonLimits& limits = {});
    // As parse(); a file that is missing, unreadable or too large is an Error(kModelFile) too.
    static JsonValue read(const std::filesystem::path& path, const JsonLimits& limits = {});

    // Members of an object. find() gives nothing for a member that is absent or null.
    JsonValue at(const std::string& name) const;
    std::optional<JsonValue> find(const std::string& name) const;
    std::vector<std::string> keys() const;
    // Elements of a list.
    std::vector<JsonValue> elements() const;
    std::size_t size() const;  // of a list

    // For long tables: nothing is copied or kept. What `visit` gets is its own only until it returns.
    void for_each(const std::function<void(const JsonValue&)>& visit) const;                             // of a list
    void for_each_member(const std::function<void(const std::string&, const JsonValue&)>& visit) const;  // of an object
    std::string_view text_view() const;                               // lives as long as the document
    std::pair<std::string_view, std::string_view> two_texts() const;  // a list of exactly two strings
    std::pair<std::string_view, double> text_and_number() const;      // ... of a string and a finite number

    // An integer written as one (4, not 4.0) in [low, high].
    std::int64_t integer(std::int64_t low, std::int64_t high) const;
    double number() const;           // finite; integers too
    double positive_number() const;  // finite and above zero
    bool boolean() const;
    std::string text() const;
    bool is_list() const;

    // Throws Error(kModelFile) about this value, showing it.
    [[noreturn]] void refuse(const std::string& expected) const;
    // The same for a well-formed value that this build cannot run: Error(kUnsupported).
    [[noreturn]] void refuse_unsupported(const std::string& supported) const;

private:
    struct Document;
    JsonValue(std::shared_ptr<const Document> document, const nlohmann::json* value, std::string field);
    const nlohmann::json& object() const;
    std::string description(const std::string& expected) const;

    std::shared_ptr<const Document> document_;
    const nlohmann::json* value_;
    std::string field_;
};

}  // namespace lrengine
