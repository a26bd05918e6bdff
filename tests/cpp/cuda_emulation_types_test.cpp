// The 16-bit types of the CUDA emulation against core/dtype.h: two implementations of the same rounding.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <bit>
#include <cmath>
#include <random>

#include "core/dtype.h"
#include "harness.h"

using namespace lrengine;

namespace {

bool same_float(float a, float b) {
    return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

bool is_nan16(std::uint16_t bits, std::uint16_t infinity) { return (bits & 0x7fff) > infinity; }

// Random bit patterns of float32, and the neighbourhood of every 16-bit value and of every tie between two.
template <typename Visit>
void for_floats(float (*widen)(std::uint16_t), Visit visit) {
    std::mt19937 generator(11);
    for (int i = 0; i < 300'000; ++i) visit(std::bit_cast<float>(static_cast<std::uint32_t>(generator())));
    for (std::uint32_t bits = 0; bits < 0x7fffu; ++bits) {
        const float low = widen(static_cast<std::uint16_t>(bits)), high = widen(static_cast<std::uint16_t>(bits + 1));
        const float tie = low + (high - low) / 2.0f;
        for (const float value : {low, tie, std::nextafter(tie, low), std::nextafter(tie, high)}) {
            visit(value);
            visit(-value);
        }
    }
}

}  // namespace

TEST(emulation_half_widens_as_core_does) {
    int different = 0;
    for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        different += !same_float(__half2float(__ushort_as_half(half)), float16_to_float(half));
        different += !same_float(__bfloat162float(__ushort_as_bfloat16(half)), bfloat16_to_float(half));
    }
    CHECK_EQUAL(different, 0);
}

TEST(emulation_half_narrows_as_core_does) {
    int different = 0;
    for_floats(float16_to_float, [&](float value) {
        const std::uint16_t found = __half_as_ushort(__float2half_rn(value)), expected = float_to_float16(value);
        different += std::isnan(value) ? !is_nan16(found, 0x7c00) : found != expected;
    });
    CHECK_EQUAL(different, 0);
}

TEST(emulation_bfloat16_narrows_as_core_does) {
    int different = 0;
    for_floats(bfloat16_to_float, [&](float value) {
        const std::uint16_t found = __bfloat16_as_ushort(__float2bfloat16_rn(value)),
                            expected = float_to_bfloat16(value);
        different += std::isnan(value) ? !is_nan16(found, 0x7f80) : found != expected;
    });
    CHECK_EQUAL(different, 0);
}

TEST(emulation_pairs_convert_both_halves) {
    const float2 back = __bfloat1622float2(__floats2bfloat162_rn(1.5f, -2.25f));
    CHECK(back.x == 1.5f && back.y == -2.25f);
    const float2 half_back = __half22float2(__float22half2_rn(make_float2(0.5f, 65504.0f)));
    CHECK(half_back.x == 0.5f && half_back.y == 65504.0f);
    CHECK_EQUAL(sizeof(__half2), 4u);
    CHECK_EQUAL(alignof(__nv_bfloat162), 4u);
    CHECK_EQUAL(__half2float(__hfma(__float2half(3.0f), __float2half(0.5f), __float2half(-1.0f))), 0.5f);
}
