// _engine.Tokenizer and _engine.TargetText: csrc/text as Python's tests see it.
#pragma once

#include <pybind11/pybind11.h>

namespace lrengine::bindings {

void register_tokenizer(pybind11::module_& module);

}  // namespace lrengine::bindings
