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
    static Int shift(Int v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
};

}  // namespace
}  // namespace lrengine
