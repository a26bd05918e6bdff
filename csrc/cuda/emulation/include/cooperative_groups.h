// The parts of cooperative groups that the project uses: the grid, the block, and tiles of a warp.
#pragma once

#include "device/builtins.h"
#include "device/warp.h"

namespace cooperative_groups {

class grid_group {
public:
    void sync(const EmulationWhere& where = EmulationWhere::current()) const { emulation::grid_barrier(where); }
    bool is_valid() const { return true; }
    unsigned long long num_blocks() const { return 1ull * gridDim.x * gridDim.y * gridDim.z; }
    unsigned long long block_rank() const {
        return blockIdx.x + 1ull * gridDim.x * (blockIdx.y + 1ull * gridDim.y * blockIdx.z);
    }
    unsigned long long num_threads() const { return num_blocks() * blockDim.x * blockDim.y * blockDim.z; }
    unsigned long long size() const { return num_threads(); }
    unsigned long long thread_rank() const {
        const unsigned in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        return block_rank() * blockDim.x * blockDim.y * blockDim.z + in_block;
    }
};

class thread_block {
public:
    void sync(const EmulationWhere& where = EmulationWhere::current()) const { __syncthreads(where); }
    unsigned thread_rank() const { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
    unsigned num_threads() const { return blockDim.x * blockDim.y * blockDim.z; }
    unsigned size() const { return num_threads(); }
    dim3 group_index() const { return dim3(blockIdx); }
    dim3 thread_index() const { return dim3(threadIdx); }
};

template <unsigned Size>
class thread_block_tile {
public:
    unsigned thread_rank() const { return static_cast<unsigned>(emulation::lane_index()) % Size; }
    static constexpr unsigned num_threads() { return Size; }
    static constexpr unsigned size() { return Size; }
    void sync(const EmulationWhere& where = EmulationWhere::current()) const { __syncwarp(mask(), where); }
    template <typename T>
    T shfl(T value, int source, const EmulationWhere& where = EmulationWhere::current()) const {
        return __shfl_sync(mask(), value, source, Size, where);
    }
    template <typename T>
    T shfl_down(T value, unsigned delta, const EmulationWhere& where = EmulationWhere::current()) const {
        return __shfl_down_sync(mask(), value, delta, Size, where);
    }
    template <typename T>
    T shfl_xor(T value, int bits, const EmulationWhere& where = EmulationWhere::current()) const {
        return __shfl_xor_sync(mask(), value, bits, Size, where);
    }

private:
    static unsigned mask() {
        const unsigned lanes = Size == 32 ? 0xffffffffu : (1u << (Size & 31u)) - 1u;
        return lanes << (static_cast<unsigned>(emulation::lane_index()) / Size * Size);
    }
};

inline grid_group this_grid() { return {}; }
inline thread_block this_thread_block() { return {}; }
template <unsigned Size>
thread_block_tile<Size> tiled_partition(const thread_block&) {
    static_assert(Size <= 32 && (Size & (Size - 1)) == 0);
    return {};
}
inline void sync(const thread_block& block) { block.sync(); }
inline void sync(const grid_group& grid) { grid.sync(); }

}  // namespace cooperative_groups
