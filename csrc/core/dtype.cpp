#include "core/dtype.h"

#include <array>
#include <bit>
#include <string>

#include "core/error.h"

namespace lrengine {

namespace {

struct Entry {
    DType dtype;
    std::size_t bytes;
    std::string_view name;
};

// In the order of the enumerators, so that an entry is found by its value.
constexpr std::array<Entry, 11> kEntries{{
    {DType::kFloat32, 4, "float32"},
    {DType::kFloat16, 2, "float16"},
    {DType::kBFloat16, 2, "bfloat16"},
    {DType::kInt8, 1, "int8"},
    {DType::kUInt8, 1, "uint8"},
    {DType::kInt16, 2, "int16"},
    {DType::kInt32, 4, "int32"},
    {DType::kInt64, 8, "int64"},
    {DType::kBool, 1, "bool"},
    {DType::kFloat64, 8, "float64"},
    {DType::kInt4, 0, "int4"},
}};

const Entry& entry_of(DType dtype) {
    const auto index = static_cast<std::size_t>(dtype);
    if (index >= kEntries.size() || kEntries[index].dtype != dtype) fail(ErrorCode::kInternal, "not a DType");
    return kEntries[index];
}

// value / 2^shift, rounded to nearest, ties to even. 0 < shift < 32.
std::uint32_t shift_to_even(std::uint32_t value, int shift) {
    const std::uint32_t half = 1u << (shift - 1);
    const std::uint32_t odd = (value >> shift) & 1u;
    return (value + half - 1u + odd) >> shift;
}

}  // namespace

std::size_t size_of(DType dtype) {
    if (dtype == DType::kInt4) fail(ErrorCode::kInternal, "an int4 is not a number of bytes");
    return entry_of(dtype).bytes;
}

std::string_view name_of(DType dtype) { return entry_of(dtype).name; }

DType dtype_from_name(std::string_view name) {
    for (const Entry& entry : kEntries) {
        if (entry.name == name) return entry.dtype;
    }
    std::string known;
    for (const Entry& entry : kEntries) known += (known.empty() ? "" : ", ") + std::string(entry.name);
    fail(ErrorCode::kInvalidArgument, "dtype: found \"" + std::string(name) + "\", expected one of " + known);
}

std::uint16_t float_to_float16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude >
        0x7f800000u) {  // NaN: keep the top of the payload, and the quiet bit so that it does not become Inf
        return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // 65520 and up rounds to Inf
    if (magnitude >= 0x38800000u) {                                                   // 2^-14: normal in half precision
        return static_cast<std::uint16_t>(sign | shift_to_even(magnitude - (112u << 23), 13));
    }
    const std::uint32_t exponent = magnitude >> 23;
    if (exponent < 102u) return sign;  // below 2^-25: rounds to zero
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    return static_cast<std::uint16_t>(sign | shift_to_even(mantissa, static_cast<int>(126u - exponent)));
}

std::uint16_t float_to_bfloat16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    const std::uint32_t odd = (bits >> 16) & 1u;
    return static_cast<std::uint16_t>((bits + 0x7fffu + odd) >> 16);
}

}  // namespace lrengine
