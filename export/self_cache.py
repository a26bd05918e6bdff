"""Attention over a cache of keys and values that the host holds as slots (docs/ONNX.md).

past_key, past_value [slots, K, d]: a token of a row takes one slot. cache_rows [rows, past] names the slot of every
token of every row, so beams that share their first tokens share slots, and reordering beams changes these numbers only.
Tokens at and after position[row] are masked. A step's own keys and values are outputs; the host binds these outputs to
the slots behind those in use, so nothing is ever concatenated or copied back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from lrengine.export.blocks import MASKED
from lrengine.export.graph import Graph


@dataclass(frozen=True)
class SelfCache:
    """indices: int64 [rows, K, past] into the cache seen as [slots * K, d]; mask: float32 [rows, 1, 1, past]."""

    heads: int
    head_dim: int
    indices: str
    mask: str

    @staticmethod
    def inputs(g: Graph, heads: int, head_dim: int, position: str) -> SelfCache:
        """Declares cache_rows; `position` int64 [rows]."""
        rows = g.input("cache_rows", TensorProto.INT64, "rows", "past")
        first = g.op("Mul", g.op("Unsqueeze", rows, g.ints(1)), g.integer(heads))
        indices = g.op("Add", first, g.constant(np.arange(heads).reshape(1, heads, 1)))
        known = g.op("Less", g.range("past"), g.op("Unsqueeze", position, g.ints(1)))
        mask = g.op("Where", known, g.number(0.0), g.number(MASKED))
        return SelfCache(heads, head_dim, indices, g.op("Unsqueeze", mask, g.ints(1, 2)))

    def past(self, g: Graph, layer: int) -> tuple[str, str]:
        """Declares a layer's cache; narrow keys and values [rows, K, past, d], each read and written once."""
        shape = ("slots", self.heads, self.head_dim)
        key = g.input(f"past_key_{layer}", g.narrow_type, *shape)
        value = g.input(f"past_value_{layer}", g.narrow_type, *shape)
        return tuple(g.op("Gather", g.reshape(part, -1, self.head_dim), self.indices) for part in (key, value))


def attend_past_and_new(
    g: Graph, query: str, past: tuple[str, str], new: tuple[str, str], weigh: Callable[[str], str]
) -> str:
    """Narrow [rows, K, q, d] of query [rows, K, q, d], and of keys and values [rows, K, past, d] and [rows, K, m, d].

    weigh: scores over past and new [rows, K, q, past + m] -> attention weights; it masks."""
    scores = [g.op("MatMul", query, g.op("Transpose", keys, perm=[0, 1, 3, 2])) for keys in (past[0], new[0])]
    weights = weigh(g.op("Concat", *scores, axis=3))
    split, end = g.op("Shape", past[0], start=2, end=3), g.ints(np.iinfo(np.int64).max)
    of_past = g.op("Slice", weights, g.ints(0), split, g.ints(3))
    of_new = g.op("Slice", weights, split, end, g.ints(3))
    return g.op("Add", g.op("MatMul", of_past, past[1]), g.op("MatMul", of_new, new[1]))


def causal_mask(g: Graph, symbol: str) -> str:
    """float32 [symbol, symbol]: MASKED where a token would look at a later one."""
    index = g.range(symbol)
    later = g.op("Less", g.op("Unsqueeze", index, g.ints(1)), g.op("Unsqueeze", index, g.ints(0)))
    return g.op("Where", later, g.number(MASKED), g.number(0.0))
