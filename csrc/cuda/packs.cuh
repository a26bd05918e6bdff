// Eight elements at a time: 16-byte loads and stores where a matrix allows them, single elements where it does not.
#pragma once

#include <type_traits>

#include "cuda/device.cuh"

namespace lrengine::cuda {

constexpr int kPack = 8;

// A matrix whose packs (eight columns, the first a multiple of eight) may be moved as 16-byte words if `aligned`.
struct PackedView {
    MatrixView matrix;
    bool aligned;
};

inline PackedView packed_view_of(const Matrix& matrix) {
    const auto row_bytes = static_cast<std::uint64_t>(matrix.stride) * size_of(matrix.dtype);
    return {view_of(matrix), (reinterpret_cast<std::uintptr_t>(matrix.data) | row_bytes) % 16 == 0};
}

// A vector as a matrix of one row. Kernels do not write through it.
inline PackedView packed_view_of(const Vector& vector) {
    return packed_view_of(Matrix{const_cast<float*>(vector.data), DType::kFloat32, 1, vector.size, vector.size});
}

// What a kernel knows when it is compiled of the matrices that it reads most. With a type: they have it, and every
// matrix of its job can be moved in whole packs, so that there is no code for anything else. kAny: it looks.
enum class Elements { kAny, kFloat32, kBFloat16, kFloat16 };

template <Elements kElements>
constexpr bool kPacksAreWhole = kElements != Elements::kAny;

template <Elements kElements>
constexpr bool kIs16Bit = kElements == Elements::kBFloat16 || kElements == Elements::kFloat16;

inline Elements elements_of(DType dtype) {
    if (dtype == DType::kBFloat16) return Elements::kBFloat16;
    return dtype == DType::kFloat16 ? Elements::kFloat16 : Elements::kFloat32;
}

// run(std::integral_constant<Elements, ...>) for the one it is.
template <typename Run>
void with_elements(Elements elements, Run run) {
    switch (elements) {
        case Elements::kFloat32:
            return run(std::integral_constant<Elements, Elements::kFloat32>());
        case Elements::kBFloat16:
            return run(std::integral_constant<Elements, Elements::kBFloat16>());
        case Elements::kFloat16:
            return run(std::integral_constant<Elements, Elements::kFloat16>());
        default:
            return run(std::integral_constant<Elements, Elements::kAny>());
    }
}

template <Elements kElements>
__device__ __forceinline__ DType type_of(const MatrixView& matrix) {
    if constexpr (kElements == Elements::kFloat32) return DType::kFloat32;
    if constexpr (kElements == Elements::kBFloat16) return DType::kBFloat16;
    if constexpr (kElements == Elements::kFloat16) return DType::kFloat16;
    return matrix.dtype;
}

// Eight elements as they lie in memory: loads can be in flight while nothing waits for a conversion.
template <Elements kElements, bool kNarrow = kIs16Bit<kElements>>
struct RawPack {
    uint4 words;
};

template <Elements kElements>
struct RawPack<kElements, false> {
    uint4 words;
    uint4 more;  // the second half of eight float32
};

__device__ __forceinline__ float float_of_bits(unsigned bits, DType dtype) {
    return dtype == DType::kBFloat16 ? __uint_as_float(bits << 16)
                                     : __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
}

// Two 16-bit elements.
__device__ __forceinline__ void unpack_pair(unsigned word, DType dtype, float* pair) {
    pair[0] = float_of_bits(word & 0xffffu, dtype);
    pair[1] = float_of_bits(word >> 16, dtype);
}

__device__ __forceinline__ unsigned pack_pair(DType dtype, float low, float high) {
    if (dtype == DType::kBFloat16) {
        return static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16(low))) |
               static_cast<unsigned>(__bfloat16_as_ushort(__float2bfloat16(high))) << 16;
    }
    return static_cast<unsigned>(__half_as_ushort(__float2half(low))) |
           static_cast<unsigned>(__half_as_ushort(__float2half(high))) << 16;
}

// Where a pack begins; a multiple of 16.
template <Elements kElements>
__device__ __forceinline__ const uint4* raw_address(const MatrixView& matrix, std::int64_t row, std::int64_t col) {
    const std::int64_t index = row * matrix.stride + col;
    const bool wide = type_of<kElements>(matrix) == DType::kFloat32;
    return reinterpret_cast<const uint4*>(static_cast<const char*>(matrix.data) + index * (wide ? 4 : 2));
}

template <Elements kElements>
__device__ __forceinline__ RawPack<kElements> load_raw(const MatrixView& matrix, std::int64_t row, std::int64_t col) {
    const uint4* at = raw_address<kElements>(matrix, row, col);
    RawPack<kElements> raw;
    raw.words = at[0];
    if constexpr (!kIs16Bit<kElements>) {
        raw.more = type_of<kElements>(matrix) == DType::kFloat32 ? at[1] : uint4{0, 0, 0, 0};
    }
    return raw;
}

// The same for what will not be read again: it takes no place in the caches from what will.
template <Elements kElements>
__device__ __forceinline__ RawPack<kElements> load_raw_once(const MatrixView& matrix, std::int64_t row,
                                                            std::int64_t col) {
    const uint4* at = raw_address<kElements>(matrix, row, col);
    RawPack<kElements> raw;
    raw.words = __ldcs(at);
    if constexpr (!kIs16Bit<kElements>) {
        raw.more = type_of<kElements>(matrix) == DType::kFloat32 ? __ldcs(at + 1) : uint4{0, 0, 0, 0};
    }
    return raw;
}

template <Elements kElements>
__device__ __forceinline__ void unpack(const RawPack<kElements>& raw, DType dtype, float (&values)[kPack]) {
    if constexpr (!kIs16Bit<kElements>) {
        if (dtype == DType::kFloat32) {
            const unsigned words[kPack] = {raw.words.x, raw.words.y, raw.words.z, raw.words.w,
                                           raw.more.x,  raw.more.y,  raw.more.z,  raw.more.w};
#pragma unroll
            for (int i = 0; i < kPack; ++i) values[i] = __uint_as_float(words[i]);
            return;
        }
    }
    unpack_pair(raw.words.x, dtype, values);
    unpack_pair(raw.words.y, dtype, values + 2);
    unpack_pair(raw.words.z, dtype, values + 4);
    unpack_pair(raw.words.w, dtype, values + 6);
}

// A pack that need be neither whole nor aligned: columns from `limit` on are 0 and not read.
template <Elements kElements>
__device__ __forceinline__ RawPack<kElements> gather_raw(const MatrixView& matrix, std::int64_t row, std::int64_t col,
                                                         std::int64_t limit) {
    float values[kPack];
#pragma unroll
    for (int i = 0; i < kPack; ++i) values[i] = col + i < limit ? load(matrix, row, col + i) : 0.0f;
    RawPack<kElements> raw;
    if constexpr (!kIs16Bit<kElements>) {
        if (matrix.dtype == DType::kFloat32) {
            raw.words = {__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]),
                         __float_as_uint(values[3])};
            raw.more = {__float_as_uint(values[4]), __float_as_uint(values[5]), __float_as_uint(values[6]),
                        __float_as_uint(values[7])};
            return raw;
        }
        raw.more = {0, 0, 0, 0};
    }
    raw.words = {pack_pair(matrix.dtype, values[0], values[1]), pack_pair(matrix.dtype, values[2], values[3]),
                 pack_pair(matrix.dtype, values[4], values[5]), pack_pair(matrix.dtype, values[6], values[7])};
    return raw;
}

// Whether a pack can be moved as words: inside [.., limit), and as aligned as the matrix. kWhole: known but for packs
// behind the limit.
template <bool kWhole>
__device__ __forceinline__ bool is_whole(const PackedView& view, std::int64_t col, std::int64_t limit) {
    if constexpr (kWhole) return col < limit;
    return view.aligned && col % kPack == 0 && col + kPack <= limit;
}

template <Elements kElements>
__device__ __forceinline__ RawPack<kElements> load_raw(const PackedView& view, std::int64_t row, std::int64_t col,
                                                       std::int64_t limit) {
    if (is_whole<kPacksAreWhole<kElements>>(view, col, limit)) return load_raw<kElements>(view.matrix, row, col);
    if constexpr (kPacksAreWhole<kElements>) return {};
    return gather_raw<kElements>(view.matrix, row, col, limit);
}

template <Elements kElements>
__device__ __forceinline__ RawPack<kElements> load_raw_once(const PackedView& view, std::int64_t row, std::int64_t col,
                                                            std::int64_t limit) {
    if (is_whole<kPacksAreWhole<kElements>>(view, col, limit)) return load_raw_once<kElements>(view.matrix, row, col);
    if constexpr (kPacksAreWhole<kElements>) return {};
    return gather_raw<kElements>(view.matrix, row, col, limit);
}

// Columns [col, col + 8) of a row; those from `limit` on are 0.
template <bool kWhole = false>
__device__ __forceinline__ void load_pack(const PackedView& view, std::int64_t row, std::int64_t col,
                                          std::int64_t limit, float (&values)[kPack]) {
    if (is_whole<kWhole>(view, col, limit)) {
        unpack(load_raw<Elements::kAny>(view.matrix, row, col), view.matrix.dtype, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
        values[i] = 0.0f;
        if constexpr (!kWhole) {
            if (col + i < limit) values[i] = load(view.matrix, row, col + i);
        }
    }
}

// Columns from `limit` on are not written.
template <bool kWhole = false>
__device__ __forceinline__ void store_pack(const PackedView& view, std::int64_t row, std::int64_t col,
                                           std::int64_t limit, const float (&values)[kPack]) {
    const MatrixView& matrix = view.matrix;
    if (!is_whole<kWhole>(view, col, limit)) {
        if constexpr (!kWhole) {
#pragma unroll
            for (int i = 0; i < kPack; ++i) {
                if (col + i < limit) store(matrix, row, col + i, values[i]);
            }
        }
        return;
    }
    const std::int64_t index = row * matrix.stride + col;
    if (matrix.dtype == DType::kFloat32) {
        auto* at = reinterpret_cast<float4*>(static_cast<float*>(matrix.data) + index);
        at[0] = {values[0], values[1], values[2], values[3]};
        at[1] = {values[4], values[5], values[6], values[7]};
        return;
    }
    *reinterpret_cast<uint4*>(static_cast<unsigned short*>(matrix.data) + index) = {
        pack_pair(matrix.dtype, values[0], values[1]), pack_pair(matrix.dtype, values[2], values[3]),
        pack_pair(matrix.dtype, values[4], values[5]), pack_pair(matrix.dtype, values[6], values[7])};
}

}  // namespace lrengine::cuda
