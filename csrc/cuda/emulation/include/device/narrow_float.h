// What __half and __nv_bfloat16 have in common: 16 bits that convert by way of float32, and arithmetic on one or two.
#pragma once

#include <cmath>
#include <cstdint>

#include "../vector_types.h"

namespace emulation {

template <typename Self, std::uint16_t (*Narrow)(float), float (*Widen)(std::uint16_t)>
struct NarrowFloat {
    std::uint16_t bits;

    NarrowFloat() = default;
    constexpr NarrowFloat(float value) : bits(Narrow(value)) {}
    constexpr NarrowFloat(double value) : bits(Narrow(static_cast<float>(value))) {}
    constexpr NarrowFloat(int value) : bits(Narrow(static_cast<float>(value))) {}
    constexpr operator float() const { return Widen(bits); }
    static constexpr Self from_bits(std::uint16_t bits) {
        Self value{};
        value.bits = bits;
        return value;
    }
};

}  // namespace emulation

#define EMULATION_NARROW_OPERATOR(one, two, symbol, name)                                                        \
    inline one operator symbol(one a, one b) { return one(static_cast<float>(a) symbol static_cast<float>(b)); } \
    inline two operator symbol(two a, two b) { return {a.x symbol b.x, a.y symbol b.y}; }                        \
    inline one& operator symbol## = (one & a, one b) { return a = a symbol b; }                                  \
    inline two& operator symbol## = (two & a, two b) { return a = a symbol b; }                                  \
    inline one name(one a, one b) { return a symbol b; }                                                         \
    inline two name##2(two a, two b) { return a symbol b; }

#define EMULATION_NARROW_COMPARISON(one, symbol, name)                                                       \
    inline bool operator symbol(one a, one b) { return static_cast<float>(a) symbol static_cast<float>(b); } \
    inline bool name(one a, one b) { return a symbol b; }

// A fused product and sum is rounded once: in float64 the product is exact and the sum nearly so.
#define EMULATION_NARROW_ARITHMETIC(one, two)                                                                \
    EMULATION_NARROW_OPERATOR(one, two, +, __hadd)                                                           \
    EMULATION_NARROW_OPERATOR(one, two, -, __hsub)                                                           \
    EMULATION_NARROW_OPERATOR(one, two, *, __hmul)                                                           \
    EMULATION_NARROW_OPERATOR(one, two, /, __hdiv)                                                           \
    EMULATION_NARROW_COMPARISON(one, ==, __heq)                                                              \
    EMULATION_NARROW_COMPARISON(one, !=, __hne)                                                              \
    EMULATION_NARROW_COMPARISON(one, <, __hlt)                                                               \
    EMULATION_NARROW_COMPARISON(one, <=, __hle)                                                              \
    EMULATION_NARROW_COMPARISON(one, >, __hgt)                                                               \
    EMULATION_NARROW_COMPARISON(one, >=, __hge)                                                              \
    inline one operator-(one a) { return one::from_bits(static_cast<std::uint16_t>(a.bits ^ 0x8000u)); }     \
    inline one __hneg(one a) { return -a; }                                                                  \
    inline one __habs(one a) { return one::from_bits(static_cast<std::uint16_t>(a.bits & 0x7fffu)); }        \
    inline two __hneg2(two a) { return {-a.x, -a.y}; }                                                       \
    inline one __hmax(one a, one b) { return one(std::fmax(static_cast<float>(a), static_cast<float>(b))); } \
    inline one __hmin(one a, one b) { return one(std::fmin(static_cast<float>(a), static_cast<float>(b))); } \
    inline two __hmax2(two a, two b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                        \
    inline two __hmin2(two a, two b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }                        \
    inline bool __hisnan(one a) { return std::isnan(static_cast<float>(a)); }                                \
    inline one __hfma(one a, one b, one c) {                                                                 \
        return one(static_cast<float>(std::fma(static_cast<double>(static_cast<float>(a)),                   \
                                               static_cast<double>(static_cast<float>(b)),                   \
                                               static_cast<double>(static_cast<float>(c)))));                \
    }                                                                                                        \
    inline two __hfma2(two a, two b, two c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
