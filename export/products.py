"""The three ways in which a product with a weight is written: in floats, in int8 with activations quantised as they
come (dynamic), and in int8 with activation ranges found by calibration (Q/DQ pairs, which TensorRT reads).

int8 weights are those of docs/MODEL_DIRECTORY.md: a scale a row of W [N, K], symmetric. Word embeddings are int8 too,
and stay one [V, D] tensor when they are the output projection as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from lrengine.quantize import quantize_rows, row_scales

if TYPE_CHECKING:
    from lrengine.export.graph import Graph
    from lrengine.export.weights import Placed

FLOAT32, INT8 = np.dtype(np.float32), np.dtype(np.int8)


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


class _Int8Products(FloatProducts):
    def rows(self, g: Graph, ids: str, table: str) -> str:
        levels, scales = _levels(g, table, transposed=False)
        values = g.op("Cast", g.op("Gather", g.weight(levels), ids), to=TensorProto.FLOAT)
        return g.op("Mul", values, g.op("Unsqueeze", g.op("Gather", g.weight(scales), ids), g.ints(-1)))


class DynamicInt8Products(_Int8Products):
    """What ONNX Runtime's dynamic quantiser writes, with one quantisation of an input that several products share."""

    def __init__(self) -> None:
        super().__init__()
        self._quantised: dict[tuple[int, str], list[str]] = {}

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        levels, scales = _levels(g, name, transposed=True)
        return self._multiply(g, x, g.weight(levels), g.weight(scales))

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        levels, scales = _levels(g, table, transposed=False)
        turned = g.op("Transpose", g.weight(levels), perm=[1, 0])  # folded when a session opens
        product = self._multiply(g, x, turned, g.weight(scales))
        return product if bias is None else g.op("Add", product, bias)

    def _multiply(self, g: Graph, x: str, levels: str, scales: str) -> str:
        key = (id(g), x)
        if key not in self._quantised:
            self._quantised[key] = [f"{x}_{part}" for part in ("levels", "scale", "zero")]
            g.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], self._quantised[key]))
        quantised, scale, zero = self._quantised[key]
        sums = g.op("Cast", g.op("MatMulInteger", quantised, levels, zero), to=TensorProto.FLOAT)
        return g.op("Mul", sums, g.op("Mul", scale, scales))


class QdqInt8Products(_Int8Products):
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
