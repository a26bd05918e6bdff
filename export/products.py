"""The three ways in which a product with a weight is written: in floats, in int8 with activations quantised as they
come (dynamic), and in int8 with activation ranges found by calibration (Q/DQ pairs, which TensorRT reads).

Dynamic: a scale and a zero point for 16 columns of a row of W [N, K]; calibrated: symmetric, a scale a row, as in
docs/MODEL_DIRECTORY.md. Both divide what a product reads by scales of its columns (smoothing.py) and multiply the
columns of W by them."""

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

FLOAT32, FLOAT16 = np.dtype(np.float32), np.dtype(np.float16)
INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
MICROSOFT = "com.microsoft"
BLOCK = 16  # columns; the smallest that MatMulNBits has
# Graphs of a static export that are built as another of the dynamic one, which is what was measured.
_MEASURED_AS = {"llm_prefill": "llm_with_past"}

# Products of what no norm has evened out: attention's mixed values and the inner states of feed-forward blocks.
_UNEVEN = (
    ".output.dense.weight", "out_proj.weight", "fc_out.weight", ".fc2.weight", ".o_proj.weight", ".down_proj.weight",
    ".SelfAttention.o.weight", ".wo.weight", ".to_out.weight", "mixer.linear2.weight",
)  # fmt: skip


class FloatProducts:
    """MatMul with W^T, which lies transposed in weights.bin; Gemm with a table [V, D] as it is."""

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        """x W^T of W `name`, narrow; `wide`: in float32, weights included, whatever the export's type."""
        suffix, dtype = (".wide", FLOAT32) if wide else ("", g.narrow_dtype)
        matrix = g.weights.placed(f"{name}.T{suffix}", lambda: g.weights.read(name).T, dtype)
        return g.op("MatMul", x if wide else g.narrow(x), g.weight(matrix))

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        """Wide [rows, V] of x [rows, D]; bias: a narrow vector."""
        inputs = [g.narrow(x), self._table(g, table), *([] if bias is None else [bias])]
        return g.wide(g.op("Gemm", *inputs, transB=1))

    def rows(self, g: Graph, ids: str, table: str) -> str:
        """Wide rows of a table."""
        return g.wide(g.op("Gather", self._table(g, table), ids))

    def _table(self, g: Graph, name: str) -> str:
        return g.weight(g.weights.placed(name, lambda: g.weights.read(name)))


class SmoothedProducts(FloatProducts):
    """smooth: weight -> scales [K] of its columns; weights that read one tensor have the same ones."""

    def __init__(self, smooth: Mapping[str, np.ndarray]) -> None:
        self._smooth = smooth
        self._divided: dict[tuple[int, str], str] = {}

    def _weight(self, g: Graph, name: str) -> np.ndarray:
        values = g.weights.read(name)
        return values * self._smooth[name] if name in self._smooth else values

    def _divide(self, g: Graph, x: str, name: str) -> str:
        """x over the scales of weight `name`, written once for all weights that read x."""
        if name not in self._smooth:
            return x
        if (id(g), x) not in self._divided:
            self._divided[id(g), x] = g.op("Mul", x, self._inverse(g, name))
        return self._divided[id(g), x]

    def _inverse(self, g: Graph, name: str) -> str:
        return g.weight(g.weights.placed(f"{name}.smooth", lambda: 1 / self._smooth[name], FLOAT32))


class BlockInt8Products(SmoothedProducts):
    """ONNX Runtime's MatMulNBits: 8 bits, a scale and a zero point for 16 columns of a row, and vectors quantised in
    the same blocks when they come. (One scale for a whole tensor of them, which DynamicQuantizeLinear gives, ruins
    LLMs: a few tokens' states are hundreds of times larger than the others'; so, less, does one a token.)"""

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        blocks = self._blocks(g, name)
        flat = blocks.rows * blocks.count
        weights = [
            blocks.levels,
            blocks.scales.viewed(f"{blocks.scales.name}.flat", flat),
            blocks.zeros.viewed(f"{blocks.zeros.name}.flat", flat),
        ]
        sizes = {"K": blocks.columns, "N": blocks.rows, "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
        inputs = [self._divide(g, x, name), *(g.weight(each) for each in weights)]
        return g.op("MatMulNBits", *inputs, domain=MICROSOFT, **sizes)

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        product = self.matmul(g, x, table)
        return product if bias is None else g.op("Add", product, bias)

    def rows(self, g: Graph, ids: str, table: str) -> str:
        blocks = self._blocks(g, table)
        levels, zeros = (
            g.op("Cast", g.op("Gather", g.weight(each), ids), to=TensorProto.FLOAT)
            for each in (blocks.levels, blocks.zeros)
        )
        scales = g.op("Unsqueeze", g.op("Gather", g.weight(blocks.scales), ids), g.ints(-1))
        values = g.op("Mul", g.op("Sub", levels, g.op("Unsqueeze", zeros, g.ints(-1))), scales)
        values = g.reshape(values, 0, 0, blocks.count * BLOCK)
        values = g.op("Slice", values, g.ints(0), g.ints(blocks.columns), g.ints(2))
        return g.op("Mul", values, self._inverse(g, table)) if table in self._smooth else values

    def _blocks(self, g: Graph, name: str) -> _Blocks:
        rows, columns = g.weights.shape(name)
        count = -(-columns // BLOCK)
        made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

        def part(index: int) -> np.ndarray:
            if not made:
                values = np.pad(self._weight(g, name), ((0, 0), (0, count * BLOCK - columns)))
                made.append(_quantize_blocks(values.reshape(rows, count, BLOCK)))
            return made[0][index]

        return _Blocks(
            g.weights.placed(f"{name}.blocks", lambda: part(0), UINT8),
            g.weights.placed(f"{name}.block_scales", lambda: part(1), FLOAT32),
            g.weights.placed(f"{name}.block_zeros", lambda: part(2), UINT8),
            rows,
            columns,
            count,
        )


class QdqInt8Products(SmoothedProducts):
    """QuantizeLinear and DequantizeLinear around products, symmetric, as TensorRT asks for; those of _UNEVEN are
    float16, since a single range for all tokens ruins them.

    ranges: graph -> the largest magnitude of each product's input over the scales of its columns, in the order in which
    products are written."""

    def __init__(self, smooth: Mapping[str, np.ndarray], ranges: Mapping[str, list[float]]) -> None:
        super().__init__(smooth)
        self._ranges = ranges
        self._written: dict[str, int] = {}
        self._rounded: dict[tuple[int, str], str] = {}

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        if name.endswith(_UNEVEN):
            self._written[g.name] = self._written.get(g.name, 0) + 1
            return super().matmul(g, x, name, wide) if wide else self._halves(g, x, name)
        levels, scales = self._levels(g, name, transposed=True)
        return g.op("MatMul", self._round(g, x, name), self._dequantised(g, levels, scales, axis=1))

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        levels, scales = self._levels(g, table, transposed=False)
        inputs = [self._round(g, x, table), self._dequantised(g, levels, scales, axis=0)]
        return g.op("Gemm", *inputs, *([] if bias is None else [bias]), transB=1)

    def rows(self, g: Graph, ids: str, table: str) -> str:
        """From a float16 table: TensorRT gathers no int8, and a table that is dequantised first is read whole."""
        halves = g.weights.placed(f"{table}.float16", lambda: g.weights.read(table), FLOAT16)
        return g.op("Cast", g.op("Gather", g.weight(halves), ids), to=TensorProto.FLOAT)

    def _halves(self, g: Graph, x: str, name: str) -> str:
        matrix = g.weights.placed(f"{name}.T.float16", lambda: g.weights.read(name).T, FLOAT16)
        product = g.op("MatMul", g.op("Cast", x, to=TensorProto.FLOAT16), g.weight(matrix))
        return g.op("Cast", product, to=TensorProto.FLOAT)

    def _round(self, g: Graph, x: str, name: str) -> str:
        number = self._written.get(g.name, 0)
        self._written[g.name] = number + 1
        largest = self._ranges[_MEASURED_AS.get(g.name, g.name)][number]
        divided = self._divide(g, x, name)
        key = (id(g), divided)
        if key not in self._rounded:
            scale = g.number(max(largest, 1e-6) / 127.0)
            zero = g.constant(np.array(0, np.int8))
            self._rounded[key] = g.op("DequantizeLinear", g.op("QuantizeLinear", divided, scale, zero), scale, zero)
        return self._rounded[key]

    def _dequantised(self, g: Graph, levels: Placed, scales: Placed, axis: int) -> str:
        return g.op("DequantizeLinear", g.weight(levels), g.weight(scales), axis=axis)

    def _levels(self, g: Graph, name: str, transposed: bool) -> tuple[Placed, Placed]:
        """int8 [N, K] (or [K, N]) and float32 [N] of W [N, K]; no scale is 0, since a runtime may divide by it."""

        def levels() -> np.ndarray:
            values = self._weight(g, name)
            rounded = quantize_rows(values, row_scales(values))
            return rounded.T if transposed else rounded

        def scales() -> np.ndarray:
            found = row_scales(self._weight(g, name))
            return np.where(found > 0, found, np.float32(1))

        suffix = ".T.int8" if transposed else ".int8"
        return g.weights.placed(f"{name}{suffix}", levels, INT8), g.weights.placed(f"{name}.scale", scales, FLOAT32)


@dataclass(frozen=True)
class _Blocks:
    """W [rows, columns] as uint8 levels [rows, count, BLOCK], float32 scales and uint8 zero points [rows, count]; the
    last block is filled with zeros."""

    levels: Placed
    scales: Placed
    zeros: Placed

    rows: int
    columns: int
    count: int


def _quantize_blocks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels of values [rows, count, BLOCK], scales and zero points [rows, count]: value = (level - zero) * scale, and
    0 is a level."""
    lowest, highest = np.minimum(values.min(-1), 0), np.maximum(values.max(-1), 0)
    scales = ((highest - lowest) / 255).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))
    zeros = np.rint(-lowest / scales)
    levels = np.clip(np.rint(values / scales[..., None]) + zeros[..., None], 0, 255)
    return levels.astype(np.uint8), scales, zeros.astype(np.uint8)
