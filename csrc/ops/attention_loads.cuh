// How attention's tiles get from device to shared memory.
#pragma once

#include "cuda/packs.cuh"
#include "ops/attention_tile.cuh"

namespace lrengine::cuda {

constexpr int kAttentionWarps = 4;
constexpr int kAttentionThreads = kAttentionWarps * kWarp;

// Part of a head: rows [first, first + rows), columns [col, col + head_dim).
struct HeadRows {
    std::int64_t first;
    int rows;
    std::int64_t col;
    int head_dim;
};

// Takes kRows rows of a head to shared memory, as float32 and zeros where there is no row or column. Each thread has
// kItems packs, of which it takes up to four at once: fetch() only starts their loads, so that those of several tiles
// can be under way.
template <int kColumns, int kRows>
struct TileLoader {
    static constexpr int kPacksPerRow = kColumns / kPack, kStride = kTileStride<kColumns>;
    static constexpr int kItems = (kRows * kPacksPerRow + kAttentionThreads - 1) / kAttentionThreads;
    static constexpr int kBatch = kItems < 4 ? kItems : 4;
    RawPack<Elements::kAny> raw[kBatch];

    static __device__ __forceinline__ int item(int i) {
        return i * kAttentionThreads + static_cast<int>(threadIdx.y) * kWarp + static_cast<int>(threadIdx.x);
    }

    __device__ __forceinline__ void fetch(const PackedView& view, const HeadRows& part, int begin) {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            const int row = item(begin + i) / kPacksPerRow, c = item(begin + i) % kPacksPerRow * kPack;
            raw[i] = {};
            if (row < part.rows && c < part.head_dim) {
                raw[i] = load_raw<Elements::kAny>(view.matrix, part.first + row, part.col + c);
            }
        }
    }

    __device__ __forceinline__ void put(DType dtype, float factor, float* tile, int begin) const {
#pragma unroll
        for (int i = 0; i < kBatch; ++i) {
            const int row = item(begin + i) / kPacksPerRow, c = item(begin + i) % kPacksPerRow * kPack;
            if (row >= kRows) break;
            float values[kPack];
            unpack(raw[i], dtype, values);
            auto* at = reinterpret_cast<float4*>(tile + row * kStride + c);
            at[0] = {values[0] * factor, values[1] * factor, values[2] * factor, values[3] * factor};
            at[1] = {values[4] * factor, values[5] * factor, values[6] * factor, values[7] * factor};
        }
    }

    // For what cannot be read in packs.
    static __device__ __forceinline__ void load_elements(const PackedView& view, const HeadRows& part, float factor,
                                                         float* tile) {
        for (int at = item(0); at < kRows * kColumns; at += kAttentionThreads) {
            const int row = at / kColumns, c = at % kColumns;
            const bool there = row < part.rows && c < part.head_dim;
            tile[row * kStride + c] = there ? factor * load(view.matrix, part.first + row, part.col + c) : 0.0f;
        }
    }
};

template <int kColumns, int kRows>
__device__ __forceinline__ void load_tile(const PackedView& view, const HeadRows& part, bool whole, float factor,
                                          float* tile) {
    using Loader = TileLoader<kColumns, kRows>;
    if (!whole) return Loader::load_elements(view, part, factor, tile);
#pragma unroll 1
    for (int begin = 0; begin < Loader::kItems; begin += Loader::kBatch) {
        Loader loader;
        loader.fetch(view, part, begin);
        loader.put(view.matrix.dtype, factor, tile, begin);
    }
}

}  // namespace lrengine::cuda
