"""What the models are made of, in standard ONNX operators: products, norms, activations, attention.

Hidden states are wide [rows, tokens, D]; a product's result is narrow (see graph.py)."""

from __future__ import annotations

import math

import numpy as np

from lrengine.errors import UnsupportedModelError
from lrengine.export.graph import Graph

MASKED = -1e30  # finite, so that a row that may look nowhere is no NaN; in float32, where softmax runs
WIDE = np.dtype(np.float32)


def linear(g: Graph, x: str, name: str, bias: bool = True) -> str:
    """x W^T + b, narrow."""
    product = g.products.matmul(g, x, f"{name}.weight")
    return g.op("Add", product, vector(g, f"{name}.bias", g.narrow_dtype)) if bias else product


def vector(g: Graph, name: str, dtype: np.dtype = WIDE) -> str:
    """A bias or a norm's gain; `dtype`: wide unless said otherwise."""
    key = name if dtype == WIDE else f"{name}.{dtype}"
    return g.weight(g.weights.placed(key, lambda: g.weights.read(name), dtype))


def project_to_vocabulary(g: Graph, x: str, table: str, bias: str | None) -> str:
    """float32 logits [rows, V] of x [rows, D]: over the [V, D] table as it is, which may be the word embedding too."""
    return g.products.project(g, x, table, None if bias is None else vector(g, bias, g.narrow_dtype))


def embed(g: Graph, ids: str, table: str, scale: float = 1.0) -> str:
    """Wide rows of a table."""
    rows = g.products.rows(g, ids, table)
    return rows if scale == 1.0 else g.op("Mul", rows, g.number(scale))


def layer_norm(g: Graph, x: str, name: str, epsilon: float) -> str:
    inputs = (x, vector(g, f"{name}.weight"), vector(g, f"{name}.bias"))
    return g.op("LayerNormalization", *inputs, axis=-1, epsilon=epsilon)


def rms_norm(g: Graph, x: str, name: str, epsilon: float) -> str:
    """x / sqrt(mean(x^2) + epsilon) * gain, spelled as ONNX Runtime's fusion looks for it."""
    mean = g.op("ReduceMean", g.op("Pow", x, g.number(2.0)), g.ints(-1), keepdims=1)
    root = g.op("Sqrt", g.op("Add", mean, g.number(epsilon)))
    return g.op("Mul", g.op("Div", x, root), vector(g, f"{name}.weight"))


def activate(g: Graph, x: str, kind: str, wide: bool = False) -> str:
    """An activation by its Hugging Face name; x is narrow unless `wide`."""
    number = g.number if wide else g.narrow_number
    if kind == "relu":
        return g.op("Relu", x)
    if kind in ("silu", "swish"):
        return g.op("Mul", x, g.op("Sigmoid", x))
    if kind == "gelu":
        if g.opset >= 20:
            return g.op("Gelu", x)
        half = g.op("Mul", x, number(0.5))
        return g.op("Mul", half, g.op("Add", g.op("Erf", g.op("Div", x, number(math.sqrt(2.0)))), number(1.0)))
    if kind in ("gelu_new", "gelu_pytorch_tanh"):
        if g.opset >= 20:
            return g.op("Gelu", x, approximate="tanh")
        cube = g.op("Mul", g.op("Mul", x, x), x)
        inner = g.op("Add", x, g.op("Mul", cube, number(0.044715)))
        tanh = g.op("Tanh", g.op("Mul", inner, number(math.sqrt(2.0 / math.pi))))
        return g.op("Mul", g.op("Mul", x, number(0.5)), g.op("Add", tanh, number(1.0)))
    raise UnsupportedModelError(f"activation '{kind}' cannot be exported: expected gelu, gelu_new, relu or silu")


def feed_forward(g: Graph, x: str, fc_in: str, fc_out: str, activation: str) -> str:
    """Wide fc_out(activation(fc_in(x)))."""
    return g.wide(linear(g, activate(g, linear(g, x, fc_in), activation), fc_out))


def additive_mask(g: Graph, mask: str, *axes: int) -> str:
    """0 where int64 `mask` is 1, MASKED elsewhere; float32, with dimensions of one inserted at `axes`."""
    hidden = g.op("Sub", g.number(1.0), g.op("Cast", mask, to=1))
    return g.op("Unsqueeze", g.op("Mul", hidden, g.number(MASKED)), g.ints(*axes))


def softmax(g: Graph, scores: str, *biases: str) -> str:
    """Narrow attention weights of narrow scores; the sum and the softmax are wide."""
    scores = g.wide(scores)
    for bias in biases:
        scores = g.op("Add", scores, bias)
    return g.narrow(g.op("Softmax", scores, axis=-1))


def split_heads(g: Graph, x: str, heads: int, head_dim: int, *order: int) -> str:
    """[rows, tokens, heads * head_dim] -> [rows, tokens, heads, head_dim], transposed to `order`."""
    return g.op("Transpose", g.reshape(x, 0, 0, heads, head_dim), perm=list(order))


def join_heads(g: Graph, x: str, width: int) -> str:
    """[rows, heads, tokens, head_dim] -> [rows, tokens, width]"""
    return g.reshape(g.op("Transpose", x, perm=[0, 2, 1, 3]), 0, 0, width)


def scaled(g: Graph, query: str, head_dim: int) -> str:
    """Before the product rather than after it: smaller, and no overflow in float16."""
    return g.op("Mul", query, g.narrow_number(head_dim**-0.5))
