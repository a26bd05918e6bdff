"""The layer mixers for one sequence, in the plain form of MODELS.md section B: no shortcut, every step written out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from reference.basics import Array, Weights, layer_norm, linear, relu, softmax


@dataclass(frozen=True)
class DropoutMasks:
    """Kept entries hold 1 / (1 - p), dropped ones 0. alpha [S, 1 + L] (row of position 0), after_attention [S, D],
    inside [S, F], after_feed_forward [S, D]; 1.0: no dropout."""

    alpha: Array | float = 1.0
    after_attention: Array | float = 1.0
    inside: Array | float = 1.0
    after_feed_forward: Array | float = 1.0


def fuse(states: Array, weights: Array) -> Array:
    """f = sum_l w_l h_l; states [L, S, D], weights [S, L] -> [S, D]."""
    return np.einsum("lsd,sl->sd", states, weights)


def last_weights(states: Array) -> Array:
    layers, length, _ = states.shape
    return np.tile(np.eye(layers)[-1], (length, 1))


def global_logits(parameters: Weights, base: float, factor: float) -> Array:
    """(base + factor t) a, [L]"""
    return (base + factor * parameters["temperature"]) * parameters["layer_logits"]


def global_weights(parameters: Weights, states: Array, base: float, factor: float) -> Array:
    return np.tile(softmax(global_logits(parameters, base, factor)), (states.shape[1], 1))


def transformer_weights(
    parameters: Weights,
    states: Array,
    eps: float,
    masks: DropoutMasks | None = None,
    added_logits: Array | float = 0.0,
) -> Array:
    """[S, L] by one post-norm Transformer layer over the 1 + L positions of every token.

    Of the layer's output only position 0 is used, so the blocks after the attention are written for it alone; the
    attention itself projects all positions to queries, keys and values."""
    masks = masks or DropoutMasks()
    layers, length, width = states.shape
    x = states.transpose(1, 0, 2) + parameters["position_embeddings"]
    first = np.broadcast_to(parameters["cls"], (length, 1, width))
    x = np.concatenate([first, x], axis=1)  # [S, 1 + L, D]
    projected = x @ parameters["attention.in_proj_weight"].T + parameters["attention.in_proj_bias"]
    query, key, value = np.split(projected, 3, axis=-1)
    alpha = softmax(query @ key.transpose(0, 2, 1) / math.sqrt(width))  # [S, 1 + L, 1 + L]
    mixed = ((alpha[:, 0] * masks.alpha)[:, None] @ value)[:, 0]
    h = x[:, 0] + masks.after_attention * linear(mixed, parameters, "attention.out_proj")
    h = layer_norm(h, parameters, "norm1", eps)
    inner = masks.inside * relu(linear(h, parameters, "linear1"))
    h = layer_norm(h + masks.after_feed_forward * linear(inner, parameters, "linear2"), parameters, "norm2", eps)
    return softmax(linear(h, parameters, "output") + added_logits)
