// Structs that callers compiled against another version of the header may hand over: `struct_size` says what they have.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>

#include "core/error.h"

namespace lrengine::capi {

inline void require_pointer(const void* pointer, const char* name) {
    if (pointer == nullptr) fail(ErrorCode::kInvalidArgument, std::string(name) + ": found NULL, expected a pointer");
}

// Beyond any version's: a struct that nobody initialised.
inline constexpr std::size_t kLargestStruct = 4096;

inline void require_struct_size(std::size_t found, std::size_t known, const char* name) {
    // Members fill whole words, so that no version ends inside one.
    if (found > sizeof(std::size_t) && found <= kLargestStruct && found % sizeof(std::size_t) == 0) return;
    fail(ErrorCode::kInvalidArgument, std::string(name) + ": struct_size is " + std::to_string(found) + ", expected " +
                                          std::to_string(known) + "; initialise the struct with its _INIT macro");
}

// What a caller gave, with defaults for members that its version does not have. Members that this library does not know
// must be 0.
template <typename T>
T from_caller(const T* given, const T& defaults, const char* name) {
    if (given == nullptr) return defaults;
    const std::size_t size = given->struct_size;
    require_struct_size(size, sizeof(T), name);
    const char* bytes = reinterpret_cast<const char*>(given);
    for (std::size_t i = sizeof(T); i < size; ++i) {
        if (bytes[i] == 0) continue;
        fail(ErrorCode::kInvalidArgument, std::string(name) + ": a member is set that this version of the library (" +
                                              lrengine_version() + ") does not have");
    }
    T value = defaults;
    std::memcpy(&value, given, std::min(size, sizeof(T)));
    value.struct_size = sizeof(T);
    return value;
}

// Writes the members that the caller has.
template <typename T>
void to_caller(T* out, T value, const char* name) {
    require_pointer(out, name);
    const std::size_t size = out->struct_size;
    require_struct_size(size, sizeof(T), name);
    value.struct_size = size;
    std::memcpy(out, &value, std::min(size, sizeof(T)));
    if (size > sizeof(T)) std::memset(reinterpret_cast<char*>(out) + sizeof(T), 0, size - sizeof(T));
}

}  // namespace lrengine::capi
