// Between Python objects and the engine's types. Everything here needs the GIL.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <vector>

#include "decode/options.h"
#include "runtime/engine.h"

namespace lrengine::bindings {

using IdArray = pybind11::array_t<std::int32_t, pybind11::array::c_style>;

std::vector<Ids> ids_from_arrays(const std::vector<IdArray>& arrays);

// One Input a source; `prompts` and `prefixes` are empty or as many as the sources.
std::vector<Input> inputs_from_arrays(const std::vector<IdArray>& sources, const std::vector<IdArray>& prompts,
                                      const std::vector<IdArray>& prefixes);

// Options by name. Throws Error(kInvalidArgument) naming an option whose value has the wrong type, or that does not
// exist.
GenerationOptions options_from_dict(const pybind11::dict& values);

// (name, default, description) of every option.
pybind11::list option_table();

// [(tokens int32 array, log-probabilities float32 array, "stop" | "length" | "cancelled")] a source.
pybind11::list to_python(const std::vector<std::vector<Hypothesis>>& answers);

pybind11::array_t<float> to_array(const std::vector<float>& values, std::vector<std::int64_t> shape);

// A Python callable as a stop hook; takes the GIL to call and to let go of it.
StopHook stop_hook(const pybind11::object& callable);

}  // namespace lrengine::bindings
