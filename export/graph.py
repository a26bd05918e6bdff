"""Builds one ONNX graph: nodes in the order they run, constants inside, weights in weights.bin.

Values are the names of tensors. There are two element types: `wide` (float32: residuals, norms, softmax, logits) and
`narrow` (what products run in: float32, float16 or bfloat16). In a float32 graph they are one, and no Cast is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from lrengine.export.products import FloatProducts
from lrengine.export.weights import ModelWeights, Placed

NARROW_TYPES = {
    "float32": (TensorProto.FLOAT, np.dtype(np.float32)),
    "float16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bfloat16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}
TYPE_NAMES = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.INT64: "int64",
}
Dim = int | str


@dataclass(frozen=True)
class Port:
    """An input or output of a graph; symbols stand for dimensions that vary."""

    name: str
    elem_type: int
    shape: tuple[Dim, ...]

    def value_info(self) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(self.name, self.elem_type, list(self.shape))


@dataclass
class Graph:
    """`dtype`: what products that are not quantised run in; `fixed`: the dimensions that a static export knows, by
    symbol."""

    name: str
    weights: ModelWeights
    dtype: str
    opset: int
    products: FloatProducts = field(default_factory=FloatProducts)
    fixed: dict[str, int] = field(default_factory=dict)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.narrow_type, self.narrow_dtype = NARROW_TYPES[self.dtype]
        self.symbols: set[str] = set()
        self._dims: dict[str, str] = {}
        self._casts: dict[tuple[str, int], str] = {}

    # -- inputs and outputs --------------------------------------------------------------------------------------------

    def input(self, name: str, elem_type: int, *shape: Dim) -> str:
        if any(port.name == name for port in self.inputs):
            return name
        self.inputs.append(Port(name, elem_type, self._known(shape)))
        self.symbols.update(dim for dim in shape if isinstance(dim, str))
        for axis, dim in enumerate(shape):
            if isinstance(dim, str) and dim not in self._dims and dim not in self.fixed:
                self._dims[dim] = self.op("Shape", name, start=axis, end=axis + 1)
        return name

    def output(self, name: str, value: str, elem_type: int, *shape: Dim) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(Port(name, elem_type, self._known(shape)))

    def _known(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        return tuple(self.fixed.get(dim, dim) if isinstance(dim, str) else dim for dim in shape)

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node of one output."""
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: np.ndarray) -> str:
        """A small tensor inside the graph, one for equal values."""
        values = np.asarray(values)
        text = "_".join(str(value) for value in values.reshape(-1).tolist())
        shape = "x".join(map(str, values.shape))
        name = f"constant_{values.dtype}_{shape}_{text}".replace("-", "m").replace(".", "p").replace("+", "")
        if len(name) > 80:
            name = f"constant_{len(self.initializers)}"
        if name not in self.initializers:
            self.initializers[name] = onnx.numpy_helper.from_array(values, name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        return self.constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def narrow_number(self, value: float) -> str:
        return self.constant(np.array(value).astype(self.narrow_dtype))

    def weight(self, placed: Placed) -> str:
        if placed.name not in self.initializers:
            self.initializers[placed.name] = placed.initializer()
        return placed.name

    # -- shapes --------------------------------------------------------------------------------------------------------

    def dim(self, symbol: str) -> str:
        """int64 [1]: a dimension of the inputs."""
        return self.ints(self.fixed[symbol]) if symbol in self.fixed else self._dims[symbol]

    def scalar_dim(self, symbol: str) -> str:
        """The same without dimensions, as Range wants it."""
        if symbol in self.fixed:
            return self.integer(self.fixed[symbol])
        if f"{symbol} scalar" not in self._dims:
            self._dims[f"{symbol} scalar"] = self.op("Squeeze", self._dims[symbol], self.ints(0))
        return self._dims[f"{symbol} scalar"]

    def range(self, symbol: str) -> str:
        """int64 [symbol]: 0, 1, ..."""
        if symbol in self.fixed:
            return self.constant(np.arange(self.fixed[symbol]))
        return self.op("Range", self.integer(0), self.scalar_dim(symbol), self.integer(1))

    def range_row(self, symbol: str) -> str:
        """The same as a row [1, symbol]; a constant is then none that onnx's inference takes for a shape."""
        if symbol in self.fixed:
            return self.constant(np.arange(self.fixed[symbol])[None])
        return self.op("Unsqueeze", self.range(symbol), self.ints(0))

    def reshape(self, value: str, *shape: Dim) -> str:
        """Numbers as in ONNX (0: as the input's, -1: what is left), symbols: dimensions of the inputs."""
        known = self._known(shape)
        if all(isinstance(dim, int) for dim in known):
            return self.op("Reshape", value, self.ints(*(int(dim) for dim in known)))
        parts = [self.ints(dim) if isinstance(dim, int) else self.dim(dim) for dim in known]
        return self.op("Reshape", value, self.op("Concat", *parts, axis=0))

    # -- types ---------------------------------------------------------------------------------------------------------

    def narrow(self, value: str) -> str:
        return self._cast(value, self.narrow_type)

    def wide(self, value: str) -> str:
        return self._cast(value, TensorProto.FLOAT)

    def _cast(self, value: str, elem_type: int) -> str:
        """One Cast a value and type, however often it is asked for; none in float32 graphs."""
        if self.narrow_type == TensorProto.FLOAT:
            return value
        if (value, elem_type) not in self._casts:
            self._casts[value, elem_type] = self.op("Cast", value, to=elem_type)
        return self._casts[value, elem_type]

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [port.value_info() for port in self.inputs],
            [port.value_info() for port in self.outputs],
            list(self.initializers.values()),
        )
        opsets = [helper.make_opsetid("", self.opset)]
        ir_version = helper.find_min_ir_version_for(opsets)
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in self.nodes} - {""})]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, producer_name="lrengine")
