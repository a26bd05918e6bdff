// As much of JSON as lrengine_onnx.json needs. Throws std::runtime_error for anything else.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace json {

struct Value {
    enum class Kind { kNull, kBool, kNumber, kText, kArray, kObject };
    Kind kind = Kind::kNull;
    bool boolean = false;
    double number = 0.0;
    std::string text;
    std::vector<Value> array;
    std::map<std::string, Value> object;

    bool is_null() const { return kind == Kind::kNull; }
    bool is_number() const { return kind == Kind::kNumber; }

    // A member; null if there is none.
    const Value& operator[](const std::string& name) const {
        static const Value none;
        const auto found = object.find(name);
        return found == object.end() ? none : found->second;
    }
    std::int64_t integer(const char* what) const {
        if (kind != Kind::kNumber) throw std::runtime_error(std::string(what) + " is not a number in the manifest");
        return static_cast<std::int64_t>(number);
    }
};

class Reader {
public:
    explicit Reader(const std::string& source) : source_(source) {}

    Value read() {
        Value value = any(0);
        space();
        if (at_ != source_.size()) refuse();
        return value;
    }

private:
    [[noreturn]] void refuse() const {
        throw std::runtime_error("the manifest is not JSON at byte " + std::to_string(at_));
    }
    void space() {
        while (at_ < source_.size() && std::string(" \t\r\n").find(source_[at_]) != std::string::npos) ++at_;
    }
    char peek() {
        space();
        return at_ < source_.size() ? source_[at_] : '\0';
    }
    void expect(const std::string& word) {
        if (source_.compare(at_, word.size(), word) != 0) refuse();
        at_ += word.size();
    }

    Value any(int depth) {
        if (depth > 32) refuse();
        Value value;
        switch (peek()) {
            case '{':
                value.kind = Value::Kind::kObject;
                members(value, depth);
                break;
            case '[':
                value.kind = Value::Kind::kArray;
                items(value, depth);
                break;
            case '"':
                value.kind = Value::Kind::kText;
                value.text = text();
                break;
            case 't':
            case 'f':
                value.kind = Value::Kind::kBool;
                value.boolean = source_[at_] == 't';
                expect(value.boolean ? "true" : "false");
                break;
            case 'n':
                expect("null");
                break;
            default:
                value.kind = Value::Kind::kNumber;
                value.number = number();
        }
        return value;
    }

    void members(Value& value, int depth) {
        ++at_;
        while (peek() != '}') {
            std::string name = text();
            if (peek() != ':') refuse();
            ++at_;
            value.object[name] = any(depth + 1);
            if (peek() == ',') ++at_;
        }
        ++at_;
    }

    void items(Value& value, int depth) {
        ++at_;
        while (peek() != ']') {
            value.array.push_back(any(depth + 1));
            if (peek() == ',') ++at_;
        }
        ++at_;
    }

    double number() {
        std::size_t used = 0;
        try {
            const double value = std::stod(source_.substr(at_, 32), &used);
            at_ += used;
            return value;
        } catch (const std::exception&) {
            refuse();
        }
    }

    // Escapes of other than ASCII characters become '?': names of graphs, tensors and files have none.
    std::string text() {
        if (peek() != '"') refuse();
        std::string found;
        for (++at_; at_ < source_.size() && source_[at_] != '"'; ++at_) {
            if (source_[at_] != '\\') {
                found += source_[at_];
                continue;
            }
            if (++at_ == source_.size()) refuse();
            const std::string names = "nrtbf", characters = "\n\r\t\b\f";
            const std::size_t which = names.find(source_[at_]);
            if (source_[at_] == 'u') {
                found += '?';
                at_ += 4;
            } else {
                found += which == std::string::npos ? source_[at_] : characters[which];
            }
        }
        if (at_ >= source_.size()) refuse();
        ++at_;
        return found;
    }

    const std::string& source_;
    std::size_t at_ = 0;
};

}  // namespace json
