#include "bindings/signals.h"

#include <pybind11/pybind11.h>

#include <chrono>

namespace py = pybind11;

namespace lrengine::bindings {

Interruption signals() {
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kPause(50);
    return [next = Clock::now() + kPause]() mutable {
        const Clock::time_point now = Clock::now();
        if (now < next) return;
        next = now + kPause;
        const py::gil_scoped_acquire gil;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    };
}

}  // namespace lrengine::bindings
