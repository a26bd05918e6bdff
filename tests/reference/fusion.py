"""The LLM's input for one source: [BOS] [mapped tokens] [end boundary] [prompt] [labels] (MODELS.md section B)."""

from __future__ import annotations

from typing import Any

import numpy as np
from reference.basics import Array, Weights, gelu, layer_norm, linear, multi_head, part_of, relu


def llm_input(
    mapped: Array, end_boundary: Array, embeddings: Array, bos: int | None, prompt: list[int], labels: list[int]
) -> Array:
    """[N, E]; `embeddings` [V, E] is the LLM's table."""
    start = [] if bos is None else [bos]
    return np.concatenate([embeddings[start], mapped, end_boundary[None], embeddings[prompt], embeddings[labels]])


def map_tokens(weights: Weights, mapper: dict[str, Any], fused: Array) -> Array:
    """[S, D] -> [S, E] (latent: [latents, E])"""
    if mapper["type"] == "linear":
        return linear(fused, weights, "layers.0")
    if mapper["type"] == "mlp":
        activation = {"relu": relu, "gelu": gelu}[mapper["activation"]]
        return linear(activation(linear(fused, weights, "layers.0")), weights, "layers.1")
    latents = weights["latents"]
    for index in range(mapper["depth"]):
        layer = part_of(weights, f"layers.{index}")
        latents = latents + latent_attention(part_of(layer, "attention"), mapper["heads"], latents, fused)
        latents = latents + linear(gelu(linear(latents, layer, "fc_in")), layer, "fc_out")
    return layer_norm(linear(latents, weights, "out_proj"), weights, "norm", 1e-5)


def latent_attention(weights: Weights, heads: int, latents: Array, fused: Array) -> Array:
    normed = layer_norm(latents, weights, "norm_latents", 1e-5)
    seen = np.concatenate([layer_norm(fused, weights, "norm_media", 1e-5), normed])
    query = linear(normed, weights, "to_q")
    return linear(
        multi_head(query, linear(seen, weights, "to_k"), linear(seen, weights, "to_v"), heads), weights, "to_out"
    )
