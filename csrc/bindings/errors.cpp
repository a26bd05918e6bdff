#include "bindings/errors.h"

#include <pybind11/pybind11.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string_view>

#include "core/error.h"

namespace py = pybind11;

namespace lrengine::bindings {

namespace {

constexpr std::size_t kMostBytes = 2047;  // of a message, as in the C interface

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

void raise(const char* name, std::string_view message) {
    const py::object type = py::module_::import("lrengine.errors").attr(name);
    // Messages may quote bytes of a hostile file, names of any length too: never fail on them.
    message = message.substr(0, kMostBytes);
    const auto text = py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(message.data(), static_cast<py::ssize_t>(message.size()), "backslashreplace"));
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
        } catch (const std::length_error&) {
            raise("OutOfMemoryError", "a request of more elements than memory can hold");
        }
    });
}

}  // namespace lrengine::bindings
