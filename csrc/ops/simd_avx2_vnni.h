// AVX2 with AVX-VNNI: four integer products a lane. In an unnamed namespace for the reason given in simd_avx512.h.
#pragma once

#include "ops/simd_avx2.h"

namespace lrengine {
namespace {

struct Avx2Vnni : Avx2 {
    using DotInput = std::int8_t;
    // vpdpbusd takes one side without a sign.
    static constexpr int kDotOffset = 128;

    static Int load_weights(const std::int8_t* p) { return _mm256_xor_si256(load_bytes(p), _mm256_set1_epi8(-128)); }
    static Int load_weights(const std::int8_t* p, std::int64_t count) {
        std::int8_t padded[4 * kWidth] = {};
        std::memcpy(padded, p, static_cast<std::size_t>(count));
        return load_weights(padded);
    }
    // Two blocks of int4, or one.
    static Int load_levels(const std::uint8_t* p) { return load_bytes(p); }
    static Int load_levels(const std::uint8_t* p, std::int64_t) {
        return _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static void split(Int bytes, Int& low, Int& high) {
        low = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
        high = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15));
    }
    template <class... Left>
    static void split_levels(const std::uint8_t* p, Int& low, Int& high, Left... bytes) {
        split(load_levels(p, bytes...), low, high);
    }
    static void level_inputs(const std::int8_t* x, Int& low, Int& high) {
        halves(load_bytes(x), load_bytes(x + 32), low, high);
    }
    static void level_inputs(const std::int8_t* x, Int& low, Int& high, std::int64_t) {
        halves(load_bytes(x), _mm256_setzero_si256(), low, high);
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

private:
    static Int load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
    static void halves(Int first, Int second, Int& low, Int& high) {
        low = _mm256_permute2x128_si256(first, second, 0x20);
        high = _mm256_permute2x128_si256(first, second, 0x31);
    }
};

}  // namespace
}  // namespace lrengine
