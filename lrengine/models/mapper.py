"""The mapper: fused encoder states to the LLM's embedding space (MODELS.md, B).

A mapper takes states [B, S, D] and mask [B, S] and gives embeddings [B, S', E] with their mask [B, S'].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention
from transformers.activations import ACT2FN

MAPPERS = ("linear", "mlp", "latent")
_LATENT_DEFAULTS = {"num_latents": 64, "depth": 1, "heads": 8, "head_dim": 64}  # LangBridge's
_LATENT_DROPOUT = 0.1  # LangBridge's


def mapper_settings(value: str | dict[str, Any], width: int) -> dict[str, Any]:
    """The complete `mapper` field of config.json, from a type name or some of its fields. Raises ValueError.

    `width`: D. mlp: hidden_dim D or 2D (published variants) or any other; latent: ffn_dim is 4D by default."""
    given = {"type": value} if isinstance(value, str) else dict(value)
    defaults: dict[str, dict[str, Any]] = {
        "linear": {},
        "mlp": {"hidden_dim": 2 * width, "activation": "relu"},
        "latent": {**_LATENT_DEFAULTS, "ffn_dim": 4 * width},
    }
    if given.get("type") not in defaults:
        raise ValueError(f"mapper type {given.get('type')!r} is not one of {', '.join(MAPPERS)}")
    known = defaults[given["type"]]
    if unknown := set(given) - set(known) - {"type"}:
        raise ValueError(f"unknown {given['type']} mapper fields: {', '.join(sorted(unknown))}")
    if given.get("activation", "relu") not in ("relu", "gelu"):
        raise ValueError(f"mapper activation '{given['activation']}' is not relu or gelu")
    return {**known, **given}


def build_mapper(settings: dict[str, Any], width: int, llm_width: int) -> nn.Module:
    """The mapper of complete `settings` from D `width` to E `llm_width`."""
    if settings["type"] == "latent":
        return LatentMapper(settings, width, llm_width)
    widths = [width, llm_width] if settings["type"] == "linear" else [width, settings["hidden_dim"], llm_width]
    return TokenMapper(widths, settings.get("activation", "relu"))


class TokenMapper(nn.Module):
    """Every token by itself: Linear(D -> E), or Linear(D -> H), activation, Linear(H -> E)."""

    def __init__(self, widths: list[int], activation: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.activation = ACT2FN[activation]

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.after_first(self.layers[0](states)), mask

    def after_first(self, states: Tensor) -> Tensor:
        """What follows the first linear, whose output `states` is."""
        for layer in self.layers[1:]:
            states = layer(self.activation(states))
        return states


class LatentMapper(nn.Module):
    """LangBridge's Perceiver resampler: a fixed number of latents look at the source (and at themselves).

    x = latents; depth times: x = dropout(y + FFN(y)) with y = x + Attention(x); then norm(out_proj(x)). LangBridge
    normalises its end vector along with the latents: a converter applies `norm` to it once, for
    `end_boundary`."""

    def __init__(self, settings: dict[str, Any], width: int, llm_width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(settings["num_latents"], width))
        self.layers = nn.ModuleList(LatentLayer(settings, width) for _ in range(settings["depth"]))
        self.out_proj = nn.Linear(width, llm_width, bias=False)
        self.norm = nn.LayerNorm(llm_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.latents)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        latents = self.latents.expand(states.shape[0], -1, -1)
        for layer in self.layers:
            latents = layer(latents, states, mask)
        embeddings = self.norm(self.out_proj(latents))
        return embeddings, mask.new_ones(embeddings.shape[:2])


class LatentLayer(nn.Module):
    """One resampler layer: attention from the latents to [source, latents], then feed-forward with exact GELU."""

    def __init__(self, settings: dict[str, Any], width: int) -> None:
        super().__init__()
        self.attention = LatentAttention(settings["heads"], settings["head_dim"], width)
        self.fc_in = nn.Linear(width, settings["ffn_dim"])
        self.fc_out = nn.Linear(settings["ffn_dim"], width)

    def forward(self, latents: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        latents = latents + self.attention(latents, states, mask)
        latents = latents + self.fc_out(nn.functional.gelu(self.fc_in(latents)))
        return dropout(latents, _LATENT_DROPOUT, self.training)


class LatentAttention(nn.Module):
    """Multi-head attention without biases; queries: the latents; keys and values: source states, then latents, each
    normalised by its own LayerNorm."""

    def __init__(self, heads: int, head_dim: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, heads * head_dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, latents: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        latents = self.norm_latents(latents)
        seen = torch.cat((self.norm_media(states), latents), dim=1)
        visible = torch.cat((mask, mask.new_ones(latents.shape[:2])), dim=1).bool()[:, None, None, :]
        query, key, value = (
            projection(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, source in ((self.to_q, latents), (self.to_k, seen), (self.to_v, seen))
        )
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self.to_out(mixed.transpose(1, 2).flatten(2))
