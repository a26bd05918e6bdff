// Names for element types that C++ has no arithmetic for, so that overloads can tell them apart.
#pragma once

#include <cstdint>

namespace lrengine {

enum class BFloat16 : std::uint16_t {};
enum class Float16 : std::uint16_t {};

}  // namespace lrengine
