// AVX-512 with VNNI: four integer products a lane. In an unnamed namespace for the reason given in simd_avx512.h.
#pragma once

#include "ops/simd_avx512.h"

namespace lrengine {
namespace {

struct Avx512Vnni : Avx512 {
    using DotInput = std::int8_t;
    // vpdpbusd takes one side without a sign.
    static constexpr int kDotOffset = 128;

    static Int load_weights(const std::int8_t* p) { return shift(_mm512_loadu_si512(p)); }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        return shift(_mm512_maskz_loadu_epi8((std::uint64_t{1} << count) - 1, p));
    }
    // Four blocks of int4, or fewer.
    static Int load_levels(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
    static Int load_levels(const std::uint8_t* p, std::int64_t bytes) {
        return _mm512_maskz_loadu_epi32(first(bytes / 4), p);
    }
    static void split(Int bytes, Int& low, Int& high) {
        low = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
        high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
    }
    template <class... Left>
    static void split_levels(const std::uint8_t* p, Int& low, Int& high, Left... bytes) {
        split(load_levels(p, bytes...), low, high);
    }
    static void level_inputs(const std::int8_t* x, Int& low, Int& high) {
        halves(_mm512_loadu_si512(x), _mm512_loadu_si512(x + 64), low, high);
    }
    static void level_inputs(const std::int8_t* x, Int& low, Int& high, std::int64_t bytes) {
        const unsigned words = (1u << bytes / 2) - 1u;  // of four columns
        halves(_mm512_maskz_loadu_epi32(static_cast<__mmask16>(words), x),
               _mm512_maskz_loadu_epi32(static_cast<__mmask16>(words >> 16), x + 64), low, high);
    }
    static Int spread(const std::int8_t* p) {
        std::int32_t four;
        std::memcpy(&four, p, sizeof four);
        return _mm512_set1_epi32(four);
    }
    // GCC 12 copies every sum before and after the intrinsic, in a full tile through memory: half of the speed.
    static Int dot(Int sum, Int weights, Int x) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(x));
        return sum;
    }
    static void store_inputs(std::int8_t* p, Float v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
    }

private:
    static void halves(Int first, Int second, Int& low, Int& high) {
        low = _mm512_shuffle_i64x2(first, second, 0x88);
        high = _mm512_shuffle_i64x2(first, second, 0xdd);
    }
    static Int shift(Int v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
};

}  // namespace
}  // namespace lrengine
