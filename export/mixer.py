"""The layer mixer as ONNX nodes, with the exact shortcut of MODELS.md (B): fused = sum_l w_l h_l per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from lrengine.export.blocks import WIDE, layer_norm, linear
from lrengine.export.graph import Graph


@dataclass(frozen=True)
class Mixed:
    """fused [batch, source, D] and weights [batch, source, L], wide, zeros at padding; kept: float32 mask
    [batch, source, 1]."""

    fused: str
    weights: str
    kept: str


def mix(g: Graph, settings: dict[str, Any], states: list[str], width: int, attention_mask: str) -> Mixed:
    kept = g.op("Unsqueeze", g.op("Cast", attention_mask, to=TensorProto.FLOAT), g.ints(2))
    layers = len(states)
    if settings["type"] == "last":
        one_hot = np.eye(layers, dtype=np.float32)[-1]
        return Mixed(g.op("Mul", states[-1], kept), g.op("Mul", kept, g.constant(one_hot)), kept)
    if settings["type"] == "global":
        shares = g.weights.placed("mixer.weights", lambda: _softmax(_global_logits(g, settings)), WIDE)
        weights = g.op("Mul", kept, g.weight(shares))
        stacked = g.op("Concat", *(g.op("Unsqueeze", state, g.ints(2)) for state in states), axis=2)
    else:
        stacked = g.op("Concat", *(g.op("Unsqueeze", state, g.ints(2)) for state in states), axis=2)
        logits = _transformer_logits(g, settings, stacked, width)
        weights = g.op("Mul", g.op("Softmax", logits, axis=-1), kept)
    fused = g.op("MatMul", g.op("Unsqueeze", weights, g.ints(2)), stacked)
    return Mixed(g.reshape(fused, 0, 0, width), weights, kept)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def _global_logits(g: Graph, settings: dict[str, Any]) -> np.ndarray:
    temperature = settings["temperature_base"] + settings["temperature_factor"] * g.weights.read("mixer.temperature")
    return temperature * g.weights.read("mixer.layer_logits")


def _transformer_logits(g: Graph, settings: dict[str, Any], stacked: str, width: int) -> str:
    """Wide [batch, source, L]. Attention of one constant query: a score is a dot product, the value path one matrix."""
    folded = _Folded(g, width)
    key, at_positions, offsets, value, bias = (
        g.weight(g.weights.placed(f"mixer.folded.{name}", getattr(folded, name), WIDE))
        for name in ("key", "scores", "vectors", "value", "bias")
    )
    scores = g.reshape(g.op("MatMul", stacked, key), 0, 0, -1)  # [batch, source, L]
    scores = g.op("Add", g.op("Pad", scores, g.ints(0, 0, 1, 0, 0, 0)), at_positions)  # the learned vector first
    alpha = g.op("Softmax", scores, axis=-1)
    of_layers = g.op("Slice", alpha, g.ints(1), g.ints(np.iinfo(np.int64).max), g.ints(2))
    mixed = g.reshape(g.op("MatMul", g.op("Unsqueeze", of_layers, g.ints(2)), stacked), 0, 0, width)
    mixed = g.op("Add", mixed, g.op("MatMul", alpha, offsets))
    epsilon = settings["layer_norm_eps"]
    x = layer_norm(g, g.op("Add", g.op("MatMul", mixed, value), bias), "mixer.norm1", epsilon)
    inner = g.wide(linear(g, g.op("Relu", linear(g, x, "mixer.linear1")), "mixer.linear2"))
    x = layer_norm(g, g.op("Add", x, inner), "mixer.norm2", epsilon)
    logits = g.wide(linear(g, x, "mixer.output"))
    if not settings["add_global"]:
        return logits
    extra = g.weights.placed("mixer.global", lambda: _global_logits(g, settings), WIDE)
    return g.op("Add", logits, g.weight(extra))


class _Folded:
    """The mixer's attention, folded in float64 into what is left of it."""

    def __init__(self, g: Graph, width: int) -> None:
        self._weights, self._width = g.weights, width

    def _read(self, name: str) -> np.ndarray:
        return self._weights.read(f"mixer.{name}").astype(np.float64)

    def key(self) -> np.ndarray:
        """[D, 1]: Wk^T q with q = (Wq c + bq) / sqrt(D); the key bias adds the same to every score and drops out."""
        wq, wk, _ = np.split(self._read("attention.in_proj_weight"), 3)
        bq = self._read("attention.in_proj_bias")[: self._width]
        return ((wq @ self._read("cls") + bq) / np.sqrt(self._width) @ wk)[:, None]

    def vectors(self) -> np.ndarray:
        """[1 + L, D]: c and the positions p_l."""
        return np.concatenate([self._read("cls")[None], self._read("position_embeddings")])

    def scores(self) -> np.ndarray:
        """[1 + L]: what c and the positions add to the scores."""
        return (self.vectors() @ self.key())[:, 0]

    def value(self) -> np.ndarray:
        """[D, D], as MatMul reads it: (Wo Wv)^T."""
        wv = self._read("attention.in_proj_weight")[2 * self._width :]
        return (self._read("attention.out_proj.weight") @ wv).T

    def bias(self) -> np.ndarray:
        """[D]: Wo bv + bo + c, the residual."""
        bv = self._read("attention.in_proj_bias")[2 * self._width :]
        return self._read("attention.out_proj.weight") @ bv + self._read("attention.out_proj.bias") + self._read("cls")
