"""Scales that move the outliers of what products read into their weights, before both are rounded to int8.

x W^T = (x / s) (W * s)^T for any s > 0 of the columns. A few columns of an LLM's hidden states are tens of times larger
than the rest, and what shares a scale with them keeps few of its levels; s_j = sqrt(max |x_j| / max |W_j|) gives the
columns of both the same range (SmoothQuant, arXiv:2211.10438, equation 4 with alpha = 0.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lrengine.export.graph import Graph
from lrengine.export.products import FloatProducts

# Columns that nothing was seen in, and columns of zeros, are taken for ones with this share of the largest.
_LEAST = 1e-3


@dataclass(frozen=True)
class Product:
    """x: the tensor of its graph that it reads; weight: the name of W [N, K]; columns: K."""

    x: str
    weight: str
    columns: int


@dataclass
class RecordedProducts(FloatProducts):
    """A float export's products. written: graph -> its products in order; weights: the largest magnitude of each column
    of each weight."""

    written: dict[str, list[Product]] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def matmul(self, g: Graph, x: str, name: str, wide: bool = False) -> str:
        self._record(g, x, name)
        return super().matmul(g, x, name, wide)

    def project(self, g: Graph, x: str, table: str, bias: str | None) -> str:
        self._record(g, x, table)
        return super().project(g, x, table, bias)

    def _record(self, g: Graph, x: str, name: str) -> None:
        if name not in self.weights:
            self.weights[name] = np.abs(g.weights.read(name)).max(0)
        self.written.setdefault(g.name, []).append(Product(x, name, len(self.weights[name])))


def smoothing_scales(recorded: RecordedProducts, largest: Mapping[str, Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """float32 scales [K] of every weight, the same for all weights that read one tensor in any graph. largest: graph ->
    the largest magnitude of each column of each product's input, as `recorded.written`."""
    groups = _Groups()
    inputs: dict[str, np.ndarray] = {}
    for graph, products in recorded.written.items():
        first: dict[str, str] = {}
        for product, columns in zip(products, largest[graph], strict=True):
            groups.join(first.setdefault(product.x, product.weight), product.weight)
            inputs[product.weight] = np.maximum(inputs.get(product.weight, 0.0), columns)
    return {
        weight: scales
        for members in groups.all()
        for weight, scales in zip(members, [_scales(members, inputs, recorded.weights)] * len(members), strict=True)
    }


def _scales(members: list[str], inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray]) -> np.ndarray:
    seen, there = (_floored(np.max([part[name] for name in members], axis=0)) for part in (inputs, weights))
    scales = np.sqrt(seen / there)
    found: np.ndarray = (scales / scales.mean()).astype(np.float32)
    return found


def _floored(values: np.ndarray) -> np.ndarray:
    most = values.max()
    return np.maximum(values, most * _LEAST) if most > 0 else np.ones_like(values)


class _Groups:
    """Names that were joined, directly or through others."""

    def __init__(self) -> None:
        self._of: dict[str, list[str]] = {}

    def join(self, one: str, other: str) -> None:
        first, second = (self._of.setdefault(name, [name]) for name in (one, other))
        if first is not second:
            first += second
            self._of |= dict.fromkeys(second, first)

    def all(self) -> list[list[str]]:
        return list({id(group): group for group in self._of.values()}.values())
