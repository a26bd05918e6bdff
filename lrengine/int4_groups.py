"""int4 with a scale a group of columns, as docs/MODEL_DIRECTORY.md has it; core/int4_groups.cpp computes the same bits.

    value = scale * (level - 8),    levels 0 .. 15

A scale is a bfloat16: two bytes, the range of float32 (the scales of small weights are subnormal in float16), and its
product with a level is exact in float32. It is searched for, not taken from the largest value: the best of some that
put the largest value at -5.25 to -8.5 steps (a few clipped values cost less than coarse steps for all the others), and
then the least-squares scale of the levels found.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from lrengine.safetensors_io import to_bfloat16_bits, to_float32

GROUP_SIZES = (32, 64, 128)
BLOCK = 32  # columns of 16 bytes: column j in the low half of byte j, column 16 + j in the high half
OFFSET = 8  # the level that stands for 0
LANES = 8  # partial sums of a group, so that the order of addition is one that vector units have too
STEPS = tuple(np.float32(5.25 + 0.25 * i) for i in range(14))
PART = 1 << 17  # numbers that a thread takes at a time
LARGEST_SCALE = np.uint16(0x777F)  # the largest bfloat16 below 2^112; values beyond eight times that are clipped


def group_scales(block: np.ndarray, group_size: int) -> np.ndarray:
    """bfloat16 bits [rows, ceil(K / group_size)] of finite float32 [rows, K]; on all processors, as it takes long."""
    rows = max(1, PART // block.shape[1])
    parts = [block[first : first + rows] for first in range(0, len(block), rows)]
    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1)) as pool:
        return np.concatenate(list(pool.map(partial(_search_scales, group_size=group_size), parts)))


def _search_scales(block: np.ndarray, group_size: int) -> np.ndarray:
    ratios, largest = _ratios(block, group_size)
    extreme = np.take_along_axis(ratios, np.abs(ratios).argmax(axis=2)[:, :, None], axis=2)[:, :, 0] * largest
    best = np.zeros(largest.shape, np.uint16)
    least = _sum(ratios * ratios)
    for steps in STEPS:
        _keep_better(ratios, largest, _to_scale(extreme / -steps), best, least)
    levels = _levels(ratios, largest, best)
    squares = _sum(levels * levels)
    fitted = _sum(ratios * levels) / np.where(squares > 0, squares, np.float32(1)) * largest
    _keep_better(ratios, largest, _to_scale(fitted), best, least)
    return best


def pack_levels(block: np.ndarray, scales: np.ndarray, group_size: int) -> np.ndarray:
    """uint8 [rows, K / 2] of finite float32 [rows, K], K a multiple of 32, given group_scales() of it."""
    ratios, largest = _ratios(block, group_size)
    levels = _levels(ratios, largest, scales).reshape(len(block), -1)[:, : block.shape[1]]
    halves = (levels + np.float32(OFFSET)).astype(np.uint8).reshape(len(block), -1, 2, BLOCK // 2)
    return (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(block), -1)


def unpack(packed: np.ndarray, scales: np.ndarray, group_size: int) -> np.ndarray:
    """float32 [rows, K] of uint8 [rows, K / 2] and their bfloat16 scales; exact."""
    blocks = packed.reshape(len(packed), -1, 1, BLOCK // 2)
    levels = np.concatenate([blocks & 15, blocks >> 4], axis=2).reshape(len(packed), -1)
    columns = np.repeat(to_float32(scales, "BF16"), group_size, axis=1)[:, : levels.shape[1]]
    return columns * (levels.astype(np.float32) - np.float32(OFFSET))


def _ratios(block: np.ndarray, group_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The values over the largest of their group [rows, groups, group_size], zeros behind the last column, and the
    largest (1 where all are 0)."""
    rows, cols = block.shape
    padded = np.zeros((rows, -(-cols // group_size), group_size), np.float32)
    padded.reshape(rows, -1)[:, :cols] = block
    largest = np.abs(padded).max(axis=2)
    largest[largest == 0] = 1
    return padded / largest[:, :, None], largest


def _to_scale(values: np.ndarray) -> np.ndarray:
    bits = to_bfloat16_bits(values.astype(np.float32))
    return (bits & 0x8000) | np.minimum(bits & 0x7FFF, LARGEST_SCALE)


def _levels(ratios: np.ndarray, largest: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Levels without their offset, -8 to 7, as float32; 0 where the scale is."""
    step = to_float32(scales, "BF16") / largest
    inverse = np.where(step != 0, np.float32(1) / np.where(step != 0, step, np.float32(1)), np.float32(0))
    return np.clip(np.rint(ratios * inverse[:, :, None]), np.float32(-8), np.float32(7))


def _keep_better(
    ratios: np.ndarray, largest: np.ndarray, scales: np.ndarray, best: np.ndarray, least: np.ndarray
) -> None:
    """Puts the scales with a smaller squared error into `best`, and that error into `least`."""
    step = to_float32(scales, "BF16") / largest
    errors = ratios - step[:, :, None] * _levels(ratios, largest, scales)
    squares = _sum(errors * errors)
    better = squares < least
    best[better] = scales[better]
    least[better] = squares[better]


def _sum(terms: np.ndarray) -> np.ndarray:
    """Sums over groups [rows, groups, group_size] in float32: eight partial sums, then halves."""
    parts = terms.reshape(*terms.shape[:2], -1, LANES)
    sums = parts[:, :, 0].copy()
    for i in range(1, parts.shape[2]):
        sums += parts[:, :, i]
    while sums.shape[2] > 1:
        half = sums.shape[2] // 2
        sums = sums[:, :, :half] + sums[:, :, half:]
    return sums[:, :, 0]
