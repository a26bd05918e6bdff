#include "core/json.h"

#include <string>
#include <vector>

#include "core/error.h"
#include "harness.h"
#include "model_files.h"

using namespace lrengine;

namespace {

JsonValue parse(const std::string& text, const JsonLimits& limits = {}) { return JsonValue::parse(text, "F", limits); }

JsonValue member(const std::string& value) { return parse("{\"a\":" + value + "}").at("a"); }

}  // namespace

TEST(json_gives_typed_fields) {
    const JsonValue root =
        parse(R"({"i": 3, "x": 2.5, "b": true, "s": "\u0e01x", "n": null, "l": [1, [2]], "o": {"k": {}}})");
    CHECK_EQUAL(root.at("i").integer(0, 3), 3);
    CHECK_EQUAL(root.at("x").number(), 2.5);
    CHECK_EQUAL(root.at("i").number(), 3.0);
    CHECK(root.at("b").boolean());
    CHECK_EQUAL(root.at("s").text(), "\xe0\xb8\x81x");
    CHECK(!root.find("n") && !root.find("absent") && root.find("i"));
    CHECK_EQUAL(root.at("l").elements().at(1).elements().at(0).integer(0, 9), 2);
    CHECK(root.at("o").keys() == std::vector<std::string>({"k"}));
}

TEST(json_visits_long_tables_without_copies) {
    const JsonValue root =
        parse(R"({"vocab": {"a": 0, "b": 1}, "merges": [["a", "b"], ["c", "d"]], "pieces": [["x", -1.5]]})");
    std::string seen;
    root.at("vocab").for_each_member(
        [&](const std::string& key, const JsonValue& id) { seen += key + std::to_string(id.integer(0, 9)); });
    CHECK_EQUAL(seen, "a0b1");
    CHECK_EQUAL(root.at("merges").size(), 2u);
    root.at("merges").for_each([&](const JsonValue& merge) {
        const auto [left, right] = merge.two_texts();
        seen += std::string(left) + "+" + std::string(right);
    });
    CHECK_EQUAL(seen, "a0b1a+bc+d");
    root.at("pieces").for_each([&](const JsonValue& piece) {
        CHECK_EQUAL(piece.text_and_number().first, "x");
        CHECK_EQUAL(piece.text_and_number().second, -1.5);
        CHECK_EQUAL(piece.elements()[0].text_view(), "x");
    });
}

// The field's name is made while visiting, and must be the visited one's.
TEST(json_names_the_fields_of_long_tables) {
    const JsonValue root = parse(R"({"vocab": {"a": 0, "b": "x"}, "list": [["a", "b"], ["a", 1], ["a"], 5]})");
    CHECK_ERROR(root.at("vocab").for_each_member([](const std::string&, const JsonValue& id) { id.integer(0, 9); }),
                ErrorCode::kModelFile, "F: vocab.b: found \"x\"");
    CHECK_ERROR(root.at("list").for_each([](const JsonValue& pair) { pair.two_texts(); }), ErrorCode::kModelFile,
                "F: list[1]: found");
    const std::vector<JsonValue> list = root.at("list").elements();
    for (const std::size_t i : {2u, 3u}) {
        CHECK_ERROR(list[i].two_texts(), ErrorCode::kModelFile, "expected a list of two strings");
        CHECK_ERROR(list[i].text_and_number(), ErrorCode::kModelFile, "expected a list of a string and a number");
    }
    CHECK_ERROR(list[0].text_and_number(), ErrorCode::kModelFile, "expected a list of a string and a number");
    CHECK_ERROR(list[3].text_view(), ErrorCode::kModelFile, "F: list[3]: found 5, expected a string");
    CHECK_ERROR(root.at("vocab").size(), ErrorCode::kModelFile, "expected a list");
    CHECK_ERROR(root.at("vocab").at("a").boolean(), ErrorCode::kModelFile, "expected true or false");
    CHECK_ERROR(root.at("vocab").at("a").positive_number(), ErrorCode::kModelFile, "expected a number above 0");
}

TEST(json_names_file_field_found_and_expected) {
    const JsonValue root = parse(R"({"encoder": {"heads": "four", "sizes": [1, -2]}})");
    CHECK_ERROR(root.at("encoder").at("heads").integer(1, 8), ErrorCode::kModelFile,
                "F: encoder.heads: found \"four\", expected an integer in [1, 8]");
    CHECK_ERROR(root.at("encoder").at("sizes").elements()[1].integer(0, 5), ErrorCode::kModelFile,
                "F: encoder.sizes[1]: found -2, expected an integer in [0, 5]");
    CHECK_ERROR(root.at("encoder").at("width"), ErrorCode::kModelFile, "F: encoder.width: found nothing");
    CHECK_ERROR(root.at("encoder").refuse_unsupported("more"), ErrorCode::kUnsupported,
                "an object of 2, expected more");
}

TEST(json_fields_refuse_other_types) {
    for (const char* text : {"1.0", "\"1\"", "true", "null", "[1]", "{}", "1e3", "9223372036854775808", "-1", "11"}) {
        CHECK_ERROR(member(text).integer(0, 10), ErrorCode::kModelFile, "F: a: found ");
    }
    for (const char* text : {"\"1\"", "true", "null", "[]"})
        CHECK_ERROR(member(text).number(), ErrorCode::kModelFile, "a number");
    CHECK_ERROR(member("0").positive_number(), ErrorCode::kModelFile, "above 0");
    CHECK_ERROR(member("1").boolean(), ErrorCode::kModelFile, "true or false");
    CHECK_ERROR(member("1").text(), ErrorCode::kModelFile, "a string");
    CHECK_ERROR(member("{}").elements(), ErrorCode::kModelFile, "a list");
    CHECK_ERROR(member("[]").at("x"), ErrorCode::kModelFile, "an object");
    CHECK_ERROR(member("[]").find("x"), ErrorCode::kModelFile, "an object");
    CHECK_ERROR(parse("3").keys(), ErrorCode::kModelFile, "F: found 3, expected an object");
}

TEST(json_refuses_what_is_not_strict_json) {
    for (const char* text : {"", " ", "{", "{\"a\":}", "{\"a\":1,}", "{'a':1}", "{\"a\":01}", "NaN", "[Infinity]",
                             "1e999", "// c\n1", "1 2", "\"\t\"", "\"\\x\"", "tru"}) {
        CHECK_ERROR(parse(text), ErrorCode::kModelFile, "F: found not JSON at byte");
    }
    CHECK_ERROR(parse("\"\xed\xa0\x80\""), ErrorCode::kModelFile, "UTF-8");
    CHECK_ERROR(parse(R"({"a":1,"b":{"c":1,"c":2}})"), ErrorCode::kModelFile, "\"c\" twice");
}

TEST(json_holds_its_limits) {
    const JsonLimits limits{.bytes = 100, .depth = 3, .values = 6};
    parse("[[[1]],2,3]", limits);
    CHECK_ERROR(parse("[[[[1]]]]", limits), ErrorCode::kModelFile, "nesting deeper than 3");
    CHECK_ERROR(parse("[1,2,3,4,5,6]", limits), ErrorCode::kModelFile, "more than 6 values");
    CHECK_ERROR(parse(std::string(101, ' '), limits), ErrorCode::kModelFile, "101 bytes");
}

TEST(json_messages_survive_hostile_text) {
    const std::string long_text(100'000, 'x');
    try {
        member("\"" + long_text + "\"").boolean();
    } catch (const Error& error) {
        CHECK(std::string(error.what()).size() < 200);
    }
    CHECK_ERROR(member("\"\\u0000\\u001b[2J\"").boolean(), ErrorCode::kModelFile, "\\u0000\\u001b[2J");
}

TEST(json_file_that_cannot_be_read_is_named) {
    const model_files::TemporaryDirectory directory;
    CHECK_ERROR(JsonValue::read(directory.path() / "none.json"), ErrorCode::kModelFile,
                "none.json: found No such file");
    CHECK_ERROR(JsonValue::read(directory.path()), ErrorCode::kModelFile, "a directory");
    directory.write("empty.json", "");
    CHECK_ERROR(JsonValue::read(directory.path() / "empty.json"), ErrorCode::kModelFile, "an empty file");
    directory.write("good.json", "{\"a\": 1}");
    CHECK_EQUAL(JsonValue::read(directory.path() / "good.json").at("a").integer(1, 1), 1);
}
