#include "bindings/errors.h"

#include <pybind11/pybind11.h>

#include <exception>
#include <new>

#include "core/error.h"

namespace py = pybind11;

namespace lrengine::bindings {

namespace {

const char* class_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument:
            return "InvalidRequestError";
        case ErrorCode::kModelFile:
            return "ModelFileError";
        case ErrorCode::kUnsupported:
            return "UnsupportedModelError";
        case ErrorCode::kOutOfMemory:
            return "OutOfMemoryError";
        case ErrorCode::kDevice:
            return "DeviceError";
        case ErrorCode::kCancelled:
            return "CancelledError";
        case ErrorCode::kInternal:
            break;
    }
    return "LrengineError";
}

void raise(const char* name, const char* message) {
    const py::object type = py::module_::import("lrengine.errors").attr(name);
    // Messages may quote bytes of a hostile file: never fail on them.
    const auto text = py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
        message, static_cast<py::ssize_t>(std::char_traits<char>::length(message)), "backslashreplace"));
    PyErr_SetObject(type.ptr(), text.ptr());
}

}  // namespace

void register_errors() {
    py::register_local_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const Error& error) {
            raise(class_of(error.code()), error.what());
        } catch (const std::bad_alloc&) {
            raise("OutOfMemoryError", "the host has no more memory");
        }
    });
}

}  // namespace lrengine::bindings
