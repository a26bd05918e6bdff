#include "bindings/conversions.h"

#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/error.h"

namespace py = pybind11;

namespace lrengine::bindings {

namespace {

[[noreturn]] void wrong_type(const char* option, const py::handle& value, const char* expected) {
    constexpr std::size_t kShown = 200;
    std::string found = py::str(py::repr(value));
    if (found.size() > kShown) found = found.substr(0, kShown) + "...";
    fail(ErrorCode::kInvalidArgument, std::string(option) + ": found " + found + ", expected " + expected);
}

// Integers only: True is one to Python, and 2.0 would be to a lenient reader. numpy's integers have __index__.
py::int_ as_integer(const char* option, const py::handle& value, const char* expected) {
    if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) wrong_type(option, value, expected);
    PyObject* integer = PyNumber_Index(value.ptr());
    if (integer == nullptr) {
        if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
        PyErr_Clear();  // an array of several numbers, which says that it has __index__
        wrong_type(option, value, expected);
    }
    return py::reinterpret_steal<py::int_>(integer);
}

void read(const char* option, const py::handle& value, std::int64_t& member) {
    const py::int_ integer = as_integer(option, value, "an integer");
    int overflow = 0;
    member = PyLong_AsLongLongAndOverflow(integer.ptr(), &overflow);
    if (overflow != 0) wrong_type(option, value, "an integer of at most 64 bits");
}

void read(const char* option, const py::handle& value, std::optional<std::uint64_t>& member) {
    if (value.is_none()) return;
    constexpr const char* kExpected = "None or an integer from 0 to 2**64 - 1";
    const py::int_ integer = as_integer(option, value, kExpected);
    member = PyLong_AsUnsignedLongLong(integer.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        wrong_type(option, value, kExpected);
    }
}

void read(const char* option, const py::handle& value, double& member) {
    const bool number = PyFloat_Check(value.ptr()) || PyLong_Check(value.ptr()) || PyIndex_Check(value.ptr());
    if (!number || PyBool_Check(value.ptr())) wrong_type(option, value, "a number");
    member = PyFloat_AsDouble(value.ptr());
    if (PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        wrong_type(option, value, "a number");
    }
}

void read(const char* option, const py::handle& value, bool& member) {
    if (!PyBool_Check(value.ptr())) wrong_type(option, value, "True or False");
    member = value.ptr() == Py_True;
}

void read(const char* option, const py::handle& value, EarlyStopping& member) {
    constexpr const char* kExpected = "True, False or \"never\"";
    if (py::isinstance<py::str>(value)) {
        if (PyUnicode_CompareWithASCIIString(value.ptr(), "never") != 0) wrong_type(option, value, kExpected);
        member = EarlyStopping::kNever;
        return;
    }
    if (!PyBool_Check(value.ptr())) wrong_type(option, value, kExpected);
    member = value.ptr() == Py_True ? EarlyStopping::kFirst : EarlyStopping::kHeuristic;
}

void read(const char* option, const py::handle& value, std::vector<std::int32_t>& member) {
    if (value.is_none()) return;
    constexpr const char* kExpected = "None or a list of token ids";
    if (py::isinstance<py::str>(value) || !py::isinstance<py::iterable>(value)) wrong_type(option, value, kExpected);
    for (const py::handle& item : py::iter(value)) {
        std::int64_t id = 0;
        read(option, item, id);
        if (id < 0 || id > std::numeric_limits<std::int32_t>::max()) wrong_type(option, item, "ids of the vocabulary");
        member.push_back(static_cast<std::int32_t>(id));
    }
}

py::object default_of(std::int64_t value) { return py::int_(value); }
py::object default_of(double value) { return py::float_(value); }
py::object default_of(bool value) { return py::bool_(value); }
py::object default_of(EarlyStopping) { return py::bool_(false); }
py::object default_of(const std::optional<std::uint64_t>&) { return py::none(); }
py::object default_of(const std::vector<std::int32_t>&) { return py::none(); }

const char* name_of(FinishReason reason) {
    switch (reason) {
        case FinishReason::kStop:
            return "stop";
        case FinishReason::kLength:
            return "length";
        case FinishReason::kCancelled:
            break;
    }
    return "cancelled";
}

template <typename T>
py::array_t<T> copied(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

}  // namespace

std::vector<Ids> ids_from_arrays(const std::vector<IdArray>& arrays) {
    std::vector<Ids> rows;
    rows.reserve(arrays.size());
    for (const IdArray& array : arrays) {
        if (array.ndim() != 1) fail(ErrorCode::kInvalidArgument, "ids: expected one dimension a row");
        rows.emplace_back(array.data(), array.data() + array.size());
    }
    return rows;
}

std::vector<Input> inputs_from_arrays(const std::vector<IdArray>& sources, const std::vector<IdArray>& prompts,
                                      const std::vector<IdArray>& prefixes) {
    std::vector<Ids> source_ids = ids_from_arrays(sources);
    std::vector<Ids> prompt_ids = ids_from_arrays(prompts), prefix_ids = ids_from_arrays(prefixes);
    for (auto* rows : {&prompt_ids, &prefix_ids}) {
        if (rows->empty()) rows->resize(source_ids.size());
        if (rows->size() != source_ids.size()) fail(ErrorCode::kInternal, "rows of a request differ in number");
    }
    std::vector<Input> inputs;
    for (std::size_t i = 0; i < source_ids.size(); ++i) {
        inputs.push_back({std::move(source_ids[i]), std::move(prompt_ids[i]), std::move(prefix_ids[i])});
    }
    return inputs;
}

GenerationOptions options_from_dict(const py::dict& values) {
    GenerationOptions options;
    std::set<std::string> known;
    visit_options(options, [&](const char* name, auto& member, const char*) {
        known.insert(name);
        if (values.contains(name)) read(name, values[name], member);
    });
    for (const auto& [name, value] : values) {
        if (!known.contains(name.cast<std::string>())) wrong_type("options", name, "the name of an option");
    }
    return options;
}

py::list option_table() {
    py::list table;
    const GenerationOptions options;
    visit_options(options, [&](const char* name, const auto& member, const char* description) {
        table.append(py::make_tuple(name, default_of(member), description));
    });
    return table;
}

py::list to_python(const std::vector<std::vector<Hypothesis>>& answers) {
    py::list rows;
    for (const auto& hypotheses : answers) {
        py::list row;
        for (const Hypothesis& found : hypotheses) {
            row.append(
                py::make_tuple(copied(found.tokens), copied(found.token_log_probs), name_of(found.finish_reason)));
        }
        rows.append(row);
    }
    return rows;
}

py::array_t<float> to_array(const std::vector<float>& values, std::vector<std::int64_t> shape) {
    py::array_t<float> array(std::move(shape));
    if (array.size() != static_cast<py::ssize_t>(values.size())) fail(ErrorCode::kInternal, "output has another size");
    std::copy(values.begin(), values.end(), array.mutable_data());
    return array;
}

StopHook stop_hook(const py::object& callable) {
    if (callable.is_none()) return {};
    // The last owner may be a thread without the GIL.
    const std::shared_ptr<py::object> held(new py::object(callable), [](py::object* object) {
        const py::gil_scoped_acquire gil;
        delete object;
    });
    return [held](std::int64_t source, std::span<const std::int32_t> tokens) {
        const py::gil_scoped_acquire gil;
        return (*held)(source, copied(std::vector<std::int32_t>(tokens.begin(), tokens.end()))).cast<bool>();
    };
}

}  // namespace lrengine::bindings
