// CUDA's vector types with CUDA's alignments, so that a 16-byte access is seen as one access of 16 bytes.
#pragma once

struct dim3;

#define EMULATION_VECTOR2(name, element, alignment) \
    struct alignas(alignment) name {                \
        element x, y;                               \
    };                                              \
    inline name make_##name(element x, element y) { return name{x, y}; }

#define EMULATION_VECTOR3(name, element) \
    struct name {                        \
        element x, y, z;                 \
    };                                   \
    inline name make_##name(element x, element y, element z) { return name{x, y, z}; }

// Not inlined: `*p = make_float4(...)` would otherwise become four stores of 4 bytes, and lose its alignment.
#define EMULATION_VECTOR4(name, element, alignment) \
    struct alignas(alignment) name {                \
        element x, y, z, w;                         \
    };                                              \
    [[gnu::noinline]] inline name make_##name(element x, element y, element z, element w) { return name{x, y, z, w}; }

EMULATION_VECTOR2(char2, signed char, 2)
EMULATION_VECTOR2(uchar2, unsigned char, 2)
EMULATION_VECTOR2(short2, short, 4)
EMULATION_VECTOR2(ushort2, unsigned short, 4)
EMULATION_VECTOR2(int2, int, 8)
EMULATION_VECTOR2(uint2, unsigned int, 8)
EMULATION_VECTOR2(float2, float, 8)
EMULATION_VECTOR2(longlong2, long long, 16)
EMULATION_VECTOR2(ulonglong2, unsigned long long, 16)
EMULATION_VECTOR2(double2, double, 16)
EMULATION_VECTOR3(int3, int)
EMULATION_VECTOR3(uint3, unsigned int)
EMULATION_VECTOR3(float3, float)
EMULATION_VECTOR4(char4, signed char, 4)
EMULATION_VECTOR4(uchar4, unsigned char, 4)
EMULATION_VECTOR4(short4, short, 8)
EMULATION_VECTOR4(ushort4, unsigned short, 8)
EMULATION_VECTOR4(int4, int, 16)
EMULATION_VECTOR4(uint4, unsigned int, 16)
EMULATION_VECTOR4(float4, float, 16)

#undef EMULATION_VECTOR2
#undef EMULATION_VECTOR3
#undef EMULATION_VECTOR4

struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};
