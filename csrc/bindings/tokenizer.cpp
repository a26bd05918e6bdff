#include "bindings/tokenizer.h"

#include <pybind11/stl.h>

#include "text/target_text.h"
#include "text/tokenizer.h"

namespace py = pybind11;

namespace lrengine::bindings {

namespace {

using Ids = std::vector<std::int32_t>;

// A tokenizer beside the prefix and the stop strings that are looked at with it.
struct OwnedTarget {
    std::shared_ptr<const Tokenizer> tokenizer;
    TargetText text;
};

std::vector<Ids> encode_all(const Tokenizer& tokenizer, const std::vector<std::string>& texts, bool special_tokens) {
    std::vector<Ids> all;
    for (const std::string& text : texts) all.push_back(tokenizer.encode(text, special_tokens));
    return all;
}

std::vector<std::string> decode_all(const Tokenizer& tokenizer, const std::vector<Ids>& rows) {
    std::vector<std::string> all;
    for (const Ids& ids : rows) all.push_back(tokenizer.decode(ids));
    return all;
}

}  // namespace

void register_tokenizer(py::module_& module) {
    const py::call_guard<py::gil_scoped_release> released;
    py::class_<Tokenizer, std::shared_ptr<Tokenizer>>(module, "Tokenizer")
        .def_static(
            "load", [](const std::string& directory) { return std::shared_ptr(Tokenizer::load(directory)); }, released)
        .def_property_readonly("size", &Tokenizer::size)
        .def(
            "encode",
            [](const Tokenizer& tokenizer, const std::string& text, bool special_tokens) {
                return tokenizer.encode(text, special_tokens);
            },
            released)
        .def("encode_all", &encode_all, released)
        .def(
            "decode", [](const Tokenizer& tokenizer, const Ids& ids) { return tokenizer.decode(ids); }, released)
        .def("decode_all", &decode_all, released)
        .def("piece", &Tokenizer::piece)
        .def("id", [](const Tokenizer& tokenizer, const std::string& piece) { return tokenizer.id(piece); });

    py::class_<OwnedTarget>(module, "TargetText")
        .def(
            py::init([](std::shared_ptr<Tokenizer> tokenizer, const Ids& prefix, const std::vector<std::string>& stop) {
                const Tokenizer& used = *tokenizer;
                return new OwnedTarget{std::move(tokenizer), TargetText(used, prefix, stop)};
            }))
        .def("whole", [](const OwnedTarget& target, const Ids& tokens) { return target.text.whole(tokens); })
        .def("stopped", [](const OwnedTarget& target, const Ids& tokens) { return target.text.stopped(tokens); })
        .def("cut", [](const OwnedTarget& target, const Ids& tokens) { return target.text.cut(tokens); })
        .def("certain", [](const OwnedTarget& target, const Ids& tokens) { return target.text.certain(tokens); });
}

}  // namespace lrengine::bindings
