// The one exception type of the engine. Every failure that a caller can cause or meet is an Error with a code;
// bindings map the code to a status (C ABI) or an exception class (Python).
#pragma once

#include <stdexcept>
#include <string>

namespace lrengine {

enum class ErrorCode {
    kInvalidArgument,  // a request: options, ids, lengths
    kModelFile,        // a file of a model directory is malformed, incomplete or contradicts another
    kUnsupported,      // well-formed, but not something this build can run
    kOutOfMemory,
    kDevice,     // driver, device or backend library
    kCancelled,  // the caller asked to stop
    kInternal,   // a broken invariant: a bug of ours
};

class Error : public std::runtime_error {
public:
    Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

    ErrorCode code() const noexcept { return code_; }

private:
    ErrorCode code_;
};

[[noreturn]] inline void fail(ErrorCode code, const std::string& message) { throw Error(code, message); }

}  // namespace lrengine
