"""The three ways in which a product with a weight is written: in floats, in int8 with activations quantised as they
come (dynamic), and in int8 with activation ranges found by calibration (Q/DQ pairs, which TensorRT reads).

int8 is symmetric: dynamic, with a scale for 32 columns of a row; calibrated, with a scale a row of W [N, K], as in
docs/MODEL_DIRECTORY.md. Word embeddings are int8 too, and stay one tensor when they are the output projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from lrengine.quantize import quantize_rows, row_scales

if TYPE_CHECKING:
    from lrengine.export.graph import Graph
    from lrengine.export.weights import Placed

FLOAT32, INT8, UINT8 = np.dtype(np.float32), np.dtype(np.int8), np.dtype(np.uint8)
MICROSOFT = "com.microsoft"
BLOCK = 32  # the smallest that MatMulNBits has


class FloatProducts:
    """MatMul with W^T, which lies transposed in weights.bin; Gemm with a table [V, D] as it is.

    inputs: graph -> what each product reads, in the order in which products are written; for calibration."""

    def __init__(self) -> None:
        self.inputs: dict[str, list[str]] = {}

    def note(self, g: Graph, x: str) -> int:
        """The product's number in its graph."""
        noted = self.inputs.setdefault(g.name, [])
        noted.append(x)
        return len(noted) - 1

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        """x W^T of W `name`, narrow; `wide`: in float32, weights included, whatever the export's type."""
        self.note(g, x)
        suffix, dtype = (".wide", FLOAT32) if wide else ("", g.narrow_dtype)
        matrix = g.weights.placed(f"{name}.T{suffix}", lambda: g.weights.read(name).T, dtype)
        return g.op("MatMul", x if wide else g.narrow(x), g.weight(matrix))

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        """Wide [rows, V] of x [rows, D]; bias: a narrow vector."""
        self.note(g, x)
        inputs = [g.narrow(x), self._table(g, table), *([] if bias is None else [bias])]
        return g.wide(g.op("Gemm", *inputs, transB=1))

    def rows(self, g: Graph, ids: str, table: str) -> str:
        """Wide rows of a table."""
        return g.wide(g.op("Gather", self._table(g, table), ids))

    def _table(self, g: Graph, name: str) -> str:
        return g.weight(g.weights.placed(name, lambda: g.weights.read(name)))


class BlockInt8Products(FloatProducts):
    """ONNX Runtime's MatMulNBits: 8 bits, a scale for 32 columns of a row, and vectors quantised in the same blocks
    when they come. (One scale for a whole tensor of them, which DynamicQuantizeLinear gives, ruins LLMs: a few tokens'
    states are hundreds of times larger than the others'; so, less, does one a token.)"""

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        blocks = _blocks(g, name)
        flat = blocks.scales.viewed(f"{name}.block_scales.flat", blocks.rows * blocks.count)
        sizes = {"K": blocks.columns, "N": blocks.rows, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        return g.op("MatMulNBits", x, g.weight(blocks.levels), g.weight(flat), domain=MICROSOFT, **sizes)

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        product = self.matmul(g, x, table)
        return product if bias is None else g.op("Add", product, bias)

    def rows(self, g: Graph, ids: str, table: str) -> str:
        blocks = _blocks(g, table)
        levels = g.op("Cast", g.op("Gather", g.weight(blocks.levels), ids), to=TensorProto.FLOAT)
        scales = g.op("Unsqueeze", g.op("Gather", g.weight(blocks.scales), ids), g.ints(-1))
        values = g.op("Mul", g.op("Sub", levels, g.number(128.0)), scales)
        values = g.reshape(values, 0, 0, blocks.count * BLOCK)
        return g.op("Slice", values, g.ints(0), g.ints(blocks.columns), g.ints(2))


class QdqInt8Products(FloatProducts):
    """QuantizeLinear and DequantizeLinear around every product, symmetric, as TensorRT asks for.

    ranges: graph -> the largest magnitude of each product's input, in the order in which products are written."""

    def __init__(self, ranges: Mapping[str, list[float]]) -> None:
        super().__init__()
        self._ranges = ranges
        self._rounded: dict[tuple[int, str], str] = {}

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        levels, scales = _levels(g, name, transposed=True)
        return g.op("MatMul", self._round(g, x), self._dequantised(g, levels, scales, axis=1))

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        levels, scales = _levels(g, table, transposed=False)
        inputs = [self._round(g, x), self._dequantised(g, levels, scales, axis=0)]
        return g.op("Gemm", *inputs, *([] if bias is None else [bias]), transB=1)

    def rows(self, g: Graph, ids: str, table: str) -> str:
        levels, scales = _levels(g, table, transposed=False)
        values = g.op("Cast", g.op("Gather", g.weight(levels), ids), to=TensorProto.FLOAT)
        return g.op("Mul", values, g.op("Unsqueeze", g.op("Gather", g.weight(scales), ids), g.ints(-1)))

    def _round(self, g: Graph, x: str) -> str:
        largest = self._ranges[g.name][self.note(g, x)]
        key = (id(g), x)
        if key not in self._rounded:
            scale = g.number(max(largest, 1e-6) / 127.0)
            zero = g.constant(np.array(0, np.int8))
            self._rounded[key] = g.op("DequantizeLinear", g.op("QuantizeLinear", x, scale, zero), scale, zero)
        return self._rounded[key]

    def _dequantised(self, g: Graph, levels: Placed, scales: Placed, axis: int) -> str:
        return g.op("DequantizeLinear", g.weight(levels), g.weight(scales), axis=axis)


def _levels(g: Graph, name: str, transposed: bool) -> tuple[Placed, Placed]:
    """int8 [N, K] (or [K, N]) and float32 [N] of W [N, K]; no scale is 0, since a runtime may divide by it."""

    def levels() -> np.ndarray:
        values = g.weights.read(name)
        rounded = quantize_rows(values, row_scales(values))
        return rounded.T if transposed else rounded

    def scales() -> np.ndarray:
        found = row_scales(g.weights.read(name))
        return np.where(found > 0, found, np.float32(1))

    suffix = ".T.int8" if transposed else ".int8"
    return g.weights.placed(f"{name}{suffix}", levels, INT8), g.weights.placed(f"{name}.scale", scales, FLOAT32)


@dataclass(frozen=True)
class _Blocks:
    """W [rows, columns] as uint8 levels [rows, count, BLOCK], 128 being 0, and float32 scales [rows, count]; the last
    block is filled with zeros."""

    levels: Placed
    scales: Placed

    rows: int
    columns: int
    count: int


def _blocks(g: Graph, name: str) -> _Blocks:
    rows, columns = g.weights.shape(name)
    count = -(-columns // BLOCK)

    def blocks() -> np.ndarray:
        values = np.pad(g.weights.read(name), ((0, 0), (0, count * BLOCK - columns)))
        return values.reshape(rows * count, BLOCK)

    def levels() -> np.ndarray:
        values = blocks()
        return (quantize_rows(values, row_scales(values)) + np.int16(128)).reshape(rows, count, BLOCK)

    return _Blocks(
        g.weights.placed(f"{name}.blocks", levels, UINT8),
        g.weights.placed(f"{name}.block_scales", lambda: row_scales(blocks()).reshape(rows, count), FLOAT32),
        rows,
        columns,
        count,
    )
