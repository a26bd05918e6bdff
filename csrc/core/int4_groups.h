// int4 weights: groups of columns that share a scale.
//
//     value = scale * (level - 8),    levels 0 .. 15
//
// A row is blocks of 32 columns in 16 bytes: column j of a block in the low half of byte j, column 16 + j in the high
// half. A vector of bytes is two of levels by a mask and a shift; a GPU's lane has a block in one 16-byte load, the
// numbers of a word in their places for `word & mask | exponent`, which makes floats of them. A scale is a bfloat16:
// two bytes with float32's range, and exact in float32 times any level.
#pragma once

#include <cstdint>
#include <span>

namespace lrengine {

inline constexpr std::int64_t kInt4Block = 32;  // columns; bytes are half as many
inline constexpr int kInt4Zero = 8;             // the level of 0
inline constexpr std::int64_t kInt4GroupSize = 32;
// The largest bfloat16 below 2^112: products that take a level's bits for 2^15 + level stay finite. Values beyond eight
// times that, 4e34, are clipped.
inline constexpr std::uint16_t kLargestGroupScale = 0x777f;

inline bool is_group_size(std::int64_t size) { return size == 32 || size == 64 || size == 128; }

// One row of finite numbers, a whole number of blocks. The scale of each group is the best of some by the squared
// error: those that put the group's largest value at -5.25, -5.5, ... -8.5 steps, and then the least-squares scale of
// the levels found. The same bits as lrengine/int4_groups.py. `levels`: row.size() / 2 bytes; `scales`: one a group.
void quantize_groups(std::span<const float> row, std::int64_t group_size, std::uint8_t* levels, std::uint16_t* scales);

// row = scale * (level - 8), exactly.
void dequantize_groups(const std::uint8_t* levels, const std::uint16_t* scales, std::int64_t group_size,
                       std::span<float> row);

}  // namespace lrengine
