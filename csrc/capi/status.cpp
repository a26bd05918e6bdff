#include "capi/status.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>

#include "core/error.h"

namespace lrengine::capi {

namespace {

// Of each thread, so that nobody's message is overwritten by another's.
thread_local std::array<char, 2048> last_message{};

lrengine_status status_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument:
            return LRENGINE_INVALID_ARGUMENT;
        case ErrorCode::kModelFile:
            return LRENGINE_MODEL_FILE;
        case ErrorCode::kUnsupported:
            return LRENGINE_UNSUPPORTED;
        case ErrorCode::kOutOfMemory:
            return LRENGINE_OUT_OF_MEMORY;
        case ErrorCode::kDevice:
            return LRENGINE_DEVICE;
        case ErrorCode::kCancelled:
            return LRENGINE_CANCELLED;
        case ErrorCode::kInternal:
            break;
    }
    return LRENGINE_INTERNAL;
}

// Bytes of `text` that fit, without half a character at the end.
std::size_t fitting(std::string_view text, std::size_t most) {
    if (text.size() <= most) return text.size();
    std::size_t size = most;
    while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0u) == 0x80u) --size;
    return size;
}

}  // namespace

lrengine_status remember(lrengine_status status, std::string_view message) noexcept {
    const std::size_t size = fitting(message, last_message.size() - 1);
    std::memcpy(last_message.data(), message.data(), size);
    last_message[size] = '\0';
    return status;
}

lrengine_status remember_exception() noexcept {
    try {
        throw;
    } catch (const Error& error) {
        return remember(status_of(error.code()), error.what());
    } catch (const Interrupted& interrupted) {
        return remember(interrupted.status, interrupted.message);
    } catch (const std::bad_alloc&) {
        return remember(LRENGINE_OUT_OF_MEMORY, "the host has no more memory");
    } catch (const std::length_error&) {
        return remember(LRENGINE_OUT_OF_MEMORY, "a request of more elements than memory can hold");
    } catch (const std::exception& error) {
        return remember(LRENGINE_INTERNAL, error.what());
    } catch (...) {
        return remember(LRENGINE_INTERNAL, "an exception of an unknown type");
    }
}

}  // namespace lrengine::capi

extern "C" {

const char* lrengine_last_error(void) { return lrengine::capi::last_message.data(); }

const char* lrengine_status_name(lrengine_status status) {
    switch (status) {
        case LRENGINE_OK:
            return "ok";
        case LRENGINE_INVALID_ARGUMENT:
            return "invalid argument";
        case LRENGINE_MODEL_FILE:
            return "model file";
        case LRENGINE_UNSUPPORTED:
            return "unsupported";
        case LRENGINE_OUT_OF_MEMORY:
            return "out of memory";
        case LRENGINE_DEVICE:
            return "device";
        case LRENGINE_CANCELLED:
            return "cancelled";
        case LRENGINE_DEADLINE:
            return "deadline";
        case LRENGINE_CALLBACK:
            return "callback";
        case LRENGINE_INTERNAL:
            return "internal";
        default:
            return "unknown status";
    }
}

#define LRENGINE_TEXT_OF(number) #number
#define LRENGINE_VERSION_TEXT(major, minor, patch) \
    LRENGINE_TEXT_OF(major) "." LRENGINE_TEXT_OF(minor) "." LRENGINE_TEXT_OF(patch)

const char* lrengine_version(void) {
    return LRENGINE_VERSION_TEXT(LRENGINE_VERSION_MAJOR, LRENGINE_VERSION_MINOR, LRENGINE_VERSION_PATCH);
}

int32_t lrengine_abi_version(void) { return LRENGINE_ABI_VERSION; }

}  // extern "C"
