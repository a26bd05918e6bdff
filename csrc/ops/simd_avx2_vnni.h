// AVX2 with AVX-VNNI: four integer products a lane. In an unnamed namespace for the reason given in simd_avx512.h.
#pragma once

#include "ops/simd_avx2.h"

namespace lrengine {
namespace {

struct Avx2Vnni : Avx2 {
    using DotInput = std::int8_t;
    // vpdpbusd takes one side without a sign.
    static constexpr int kDotOffset = 128;

    static Int load_weights(const std::int8_t* p) {
        const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
    }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        std::int8_t padded[4 * kWidth] = {};
        std::memcpy(padded, p, static_cast<std::size_t>(count));
        return load_weights(padded);
    }
    static Int spread(const std::int8_t* p) {
        std::int32_t four;
        std::memcpy(&four, p, sizeof four);
        return _mm256_set1_epi32(four);
    }
    // The intrinsic, without the copies that GCC 12 makes around it.
    static Int dot(Int sum, Int weights, Int x) {
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(x));
        return sum;
    }
    static void store_inputs(std::int8_t* p, Float v) {
        const __m128i pairs = pairs_of(v);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(pairs, pairs));
    }
};

}  // namespace
}  // namespace lrengine
