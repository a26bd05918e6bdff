// The Python module lrengine._engine: what lrengine/engine.py is written on. Computing calls release the GIL.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/conversions.h"
#include "bindings/errors.h"
#include "bindings/outside_model.h"
#include "bindings/signals.h"
#include "bindings/tokenizer.h"
#include "core/error.h"
#include "ops/backend.h"
#include "runtime/engine.h"

namespace py = pybind11;
using namespace lrengine;

namespace {

using bindings::IdArray;

std::shared_ptr<Engine> load(const std::string& directory, const std::string& device,
                             const std::optional<std::string>& dtype, int threads, const py::object& log) {
    EngineOptions options{.device = device, .dtype = {}, .threads = threads, .log = {}};
    if (dtype) options.dtype = dtype_from_name(*dtype);
    std::vector<std::string> notes;
    options.log = [&](const std::string& note) { notes.push_back(note); };
    std::shared_ptr<Engine> engine;
    {
        const py::gil_scoped_release release;
        engine = Engine::load(directory, options);
    }
    for (const std::string& note : notes) log(note);
    return engine;
}

void check_weights(const Engine& engine) { engine.check_weights(bindings::signals()); }

std::unique_ptr<Session> start(const Engine& engine, const std::vector<IdArray>& sources,
                               const std::vector<IdArray>& prompts, const std::vector<IdArray>& prefixes,
                               const py::dict& options, const py::object& stop) {
    const auto inputs = bindings::inputs_from_arrays(sources, prompts, prefixes);
    GenerationOptions typed = bindings::options_from_dict(options);
    StopHook hook = bindings::stop_hook(stop);
    const py::gil_scoped_release release;
    return engine.start(inputs, std::move(typed), std::move(hook), bindings::signals());
}

std::unique_ptr<Session> start_outside(const py::object& begin, std::int64_t vocab_size, std::int64_t max_length,
                                       std::vector<std::int32_t> end_tokens, const std::vector<IdArray>& sources,
                                       const std::vector<IdArray>& prompts, const std::vector<IdArray>& forced,
                                       const py::dict& options, const py::object& stop) {
    return bindings::start_outside({vocab_size, max_length, std::move(end_tokens), begin}, sources, prompts, forced,
                                   options, stop);
}

std::vector<py::array_t<float>> to_arrays(const std::vector<std::vector<float>>& rows) {
    std::vector<py::array_t<float>> arrays;
    for (const auto& row : rows) arrays.push_back(bindings::to_array(row, {static_cast<std::int64_t>(row.size())}));
    return arrays;
}

std::vector<py::array_t<float>> score(const Engine& engine, const std::vector<IdArray>& sources,
                                      const std::vector<IdArray>& prompts, const std::vector<IdArray>& targets) {
    const auto inputs = bindings::inputs_from_arrays(sources, prompts, {});
    const auto target_ids = bindings::ids_from_arrays(targets);
    std::vector<std::vector<float>> log_probs;
    {
        const py::gil_scoped_release release;
        log_probs = engine.score(inputs, target_ids, bindings::signals());
    }
    return to_arrays(log_probs);
}

void check_labels(const Engine& engine, const std::vector<IdArray>& sources, const std::vector<IdArray>& prompts,
                  const std::vector<IdArray>& labels) {
    engine.check_labels(bindings::inputs_from_arrays(sources, prompts, {}), bindings::ids_from_arrays(labels));
}

std::vector<py::array_t<float>> classify(const Engine& engine, const std::vector<IdArray>& sources) {
    const auto ids = bindings::ids_from_arrays(sources);
    std::vector<std::vector<float>> log_probs;
    {
        const py::gil_scoped_release release;
        log_probs = engine.classify(ids, bindings::signals());
    }
    return to_arrays(log_probs);
}

EncodeOutput output_from_name(const std::string& name) {
    if (name == "last") return EncodeOutput::kLast;
    if (name == "fused") return EncodeOutput::kFused;
    if (name == "all") return EncodeOutput::kAll;
    if (name == "weights") return EncodeOutput::kWeights;
    fail(ErrorCode::kInvalidArgument,
         "output: found \"" + name + "\", expected \"last\", \"fused\", \"all\" or \"weights\"");
}

std::vector<py::array_t<float>> encode(const Engine& engine, const std::vector<IdArray>& sources,
                                       const std::string& name) {
    const EncodeOutput output = output_from_name(name);
    const auto ids = bindings::ids_from_arrays(sources);
    std::vector<std::vector<float>> encoded;
    {
        const py::gil_scoped_release release;
        encoded = engine.encode(ids, output, bindings::signals());
    }
    const std::int64_t layers = engine.encoder().layers, width = engine.encoder().width;
    std::vector<py::array_t<float>> arrays;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        const auto length = static_cast<std::int64_t>(ids[i].size());
        std::vector<std::int64_t> shape = {length, width};
        if (output == EncodeOutput::kAll) shape = {layers, length, width};
        if (output == EncodeOutput::kWeights) shape = {length, layers};
        arrays.push_back(bindings::to_array(encoded[i], shape));
    }
    return arrays;
}

std::vector<std::string> labels(const Engine& engine) {
    return engine.config().classifier ? engine.config().classifier->labels : std::vector<std::string>{};
}

}  // namespace

PYBIND11_MODULE(_engine, module) {
    bindings::register_errors();
    bindings::register_tokenizer(module);
    module.def("load", &load);
    module.def("option_table", &bindings::option_table);
    module.def("cpu_isa", &cpu_isa);

    module.def("start_outside", &start_outside);

    py::class_<Session>(module, "Session")
        .def_property_readonly("done", &Session::done)
        .def("step", &Session::step, py::call_guard<py::gil_scoped_release>())
        .def("cancel", &Session::cancel)
        .def("results", [](const Session& session) { return bindings::to_python(session.results()); });

    py::class_<Engine, std::shared_ptr<Engine>>(module, "Engine")
        .def_property_readonly("device", &Engine::device)
        .def_property_readonly("dtype", [](const Engine& engine) { return std::string(name_of(engine.dtype())); })
        .def_property_readonly("model_type", [](const Engine& engine) { return engine.config().model_type; })
        .def_property_readonly("weight_bytes", &Engine::weight_bytes)
        .def_property_readonly("kernel_launches", &Engine::kernel_launches)
        .def_property_readonly("labels", &labels)
        .def_property_readonly("end_tokens", [](const Engine& engine) { return engine.config().tokens.eos; })
        .def_property_readonly("vocab_size", [](const Engine& engine) { return engine.encoder().vocab; })
        .def_property_readonly("max_source_length", [](const Engine& engine) { return engine.encoder().max_positions; })
        .def_property_readonly("target_vocab_size", &Engine::target_vocab_size)
        .def_property_readonly("max_target_length", &Engine::max_target_length)
        .def("check_weights", &check_weights, py::call_guard<py::gil_scoped_release>())
        .def("start", &start)
        .def("score", &score)
        .def("check_labels", &check_labels)
        .def("classify", &classify)
        .def("encode", &encode);
}
