"""The formulas everything else is made of, in NumPy float64. Arrays of one sequence: [S, D], no batch, no padding."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def linear(x: Array, weights: Weights, name: str) -> Array:
    """x W^T + b, with W [out, in] and b where there is one."""
    y = x @ weights[f"{name}.weight"].T
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def layer_norm(x: Array, weights: Weights, name: str, eps: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def gelu(x: Array) -> Array:
    """The exact form: x * P(N(0, 1) <= x)."""
    return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def multi_head(query: Array, key: Array, value: Array, heads: int, causal: bool = False) -> Array:
    """softmax(q k^T / sqrt(d)) v for every head; query [T, D], key and value [S, D] -> [T, D]."""
    width = query.shape[1] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width)
        if causal:
            future = np.triu(np.ones_like(scores, dtype=bool), k=1)
            scores = np.where(future, -np.inf, scores)
        mixed.append(softmax(scores) @ value[:, part])
    return np.concatenate(mixed, axis=1)


def part_of(weights: Weights, prefix: str) -> Weights:
    """The tensors under `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: value for name, value in weights.items() if name.startswith(f"{prefix}.")}
