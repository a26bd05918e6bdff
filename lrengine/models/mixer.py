"""The layer mixer: per token, how much of each encoder layer goes into the fused state (MODELS.md, B).

fused = sum_l w_l h_l over the L layers' raw states, zeros at padding. The forms differ in where w comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from lrengine.kernels.layer_mix import layer_mix
from lrengine.kernels.transformer_mix import attend_layers

MIXERS = ("last", "global", "transformer")

# Published code's values: temperature 100 + 1e5 t with t from 1e-5 and logits from 3e-5; its encoder layer: 1 head,
# FFN 2048, dropout 0.1.
_DEFAULTS: dict[str, Any] = {
    "temperature_base": 100.0,
    "temperature_factor": 1e5,
    "ffn_dim": 2048,
    "layer_norm_eps": 1e-5,
    "dropout": 0.1,
    "add_global": False,
}
_FIRST_TEMPERATURE = 1e-5
_FIRST_LAYER_LOGIT = 3e-5


def mixer_settings(value: str | dict[str, Any]) -> dict[str, Any]:
    """The complete `mixer` field of config.json, from a type name or some of its fields. Raises ValueError."""
    given = {"type": value} if isinstance(value, str) else dict(value)
    if given.get("type") not in MIXERS:
        raise ValueError(f"mixer type {given.get('type')!r} is not one of {', '.join(MIXERS)}")
    if unknown := set(given) - set(_DEFAULTS) - {"type"}:
        raise ValueError(f"unknown mixer fields: {', '.join(sorted(unknown))}")
    return {**_DEFAULTS, **given}


def build_mixer(settings: dict[str, Any], layers: int, width: int) -> LayerMixer:
    """The mixer of complete `settings` for L `layers` of D `width`."""
    forms: dict[str, type[LayerMixer]] = {"last": LastMixer, "global": GlobalMixer, "transformer": TransformerMixer}
    return forms[settings["type"]](settings, layers, width)


class LayerMixer(nn.Module):
    """Base: the weighted sum. `states` is always the list of L layer states, each [B, S, D]."""

    has_logits = True  # whether the weights are a softmax

    def __init__(self, settings: dict[str, Any], layers: int, width: int) -> None:
        super().__init__()
        self.settings, self.layers, self.width = settings, layers, width

    def logits(self, states: Sequence[Tensor]) -> Tensor:
        """[L], the same for all tokens, or [B, S, L]; in float32 or better."""
        raise NotImplementedError

    def weights(self, states: Sequence[Tensor]) -> Tensor:
        """[B, S, L], rows sum to 1."""
        return self.logits(states).softmax(-1).to(states[0].dtype).expand(*states[0].shape[:-1], -1)

    def forward(self, states: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        """Fused states [B, S, D] and the weights [B, S, L] that made them; both zeros where mask [B, S] is 0."""
        return layer_mix(states, self.logits(states), mask)

    def reset_parameters(self) -> None:
        """First values of the parameters that this module itself (not a submodule) holds."""


class LastMixer(LayerMixer):
    """w is one-hot on the last layer: LangBridge."""

    has_logits = False

    def weights(self, states: Sequence[Tensor]) -> Tensor:
        one_hot = states[0].new_zeros(*states[0].shape[:-1], self.layers)
        one_hot[..., -1] = 1.0
        return one_hot

    def forward(self, states: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
        kept = mask.unsqueeze(-1).to(states[-1].dtype)
        return states[-1] * kept, self.weights(states) * kept


class GlobalMixer(LayerMixer):
    """w = softmax((base + factor t) a), the same for all tokens."""

    def __init__(self, settings: dict[str, Any], layers: int, width: int) -> None:
        super().__init__(settings, layers, width)
        self.layer_logits = nn.Parameter(torch.empty(layers))
        self.temperature = nn.Parameter(torch.empty(1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.constant_(self.layer_logits, _FIRST_LAYER_LOGIT)
        nn.init.constant_(self.temperature, _FIRST_TEMPERATURE)

    def global_logits(self) -> Tensor:
        """[L], in float32 or better: the factor is too large for half precision."""
        base, factor = self.settings["temperature_base"], self.settings["temperature_factor"]
        return (base + factor * _wide(self.temperature)) * _wide(self.layer_logits)

    def logits(self, states: Sequence[Tensor]) -> Tensor:
        return self.global_logits()


class TransformerMixer(GlobalMixer):
    """w from one post-norm Transformer layer (1 head) over [c, h_1 + p_1, .., h_L + p_L], read at position 0.

    Computed by the exact shortcut: the query of position 0 is a constant, so a score is one dot product, and the value
    path is linear, so it is applied once to z = sum_l alpha_l x_l. With `add_global` the global form's logits are added
    to those of the output layer, which then starts from zero."""

    def __init__(self, settings: dict[str, Any], layers: int, width: int) -> None:
        super().__init__(settings, layers, width)
        if not settings["add_global"]:
            del self.layer_logits, self.temperature
        eps = settings["layer_norm_eps"]
        self.position_embeddings = nn.Parameter(torch.empty(layers, width))
        self.cls = nn.Parameter(torch.empty(width))
        self.attention = nn.MultiheadAttention(width, num_heads=1)  # holds the weights; its forward is never called
        self.linear1 = nn.Linear(width, settings["ffn_dim"])
        self.linear2 = nn.Linear(settings["ffn_dim"], width)
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.output = nn.Linear(width, layers)
        self.dropout, self.dropout1, self.dropout2 = (nn.Dropout(settings["dropout"]) for _ in range(3))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.settings["add_global"]:
            super().reset_parameters()
        if hasattr(self, "cls"):
            nn.init.zeros_(self.cls)
            nn.init.normal_(self.position_embeddings, std=0.02)
            if self.settings["add_global"]:
                nn.init.zeros_(self.output.weight)
                nn.init.zeros_(self.output.bias)

    def attention_dropout(self, alpha: Tensor) -> Tensor:
        """alpha [B, S, 1 + L] after dropout: kept entries are scaled up, so its rows no longer sum to 1."""
        return dropout(alpha, self.settings["dropout"], self.training)

    def logits(self, states: Sequence[Tensor]) -> Tensor:
        mixed, total = self._attend(states)
        _, _, wv = self.attention.in_proj_weight.chunk(3)
        value = linear(mixed, wv) + total * self.attention.in_proj_bias[2 * self.width :]
        x = self.norm1(self.cls + self.dropout1(self.attention.out_proj(value)))
        x = self.norm2(x + self.dropout2(self.linear2(self.dropout(self.linear1(x).relu()))))
        logits = _wide(self.output(x))
        return logits + self.global_logits() if self.settings["add_global"] else logits

    def _attend(self, states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """z = alpha_0 c + sum_l alpha_l (h_l + p_l) [B, S, D] and sum(alpha) [B, S, 1]."""
        keep = None
        if self.training and self.settings["dropout"] > 0:
            keep = self.attention_dropout(self.cls.new_ones(*states[0].shape[:-1], 1 + self.layers))
        return attend_layers(states, self._constant_key(), self.position_embeddings, self.cls, keep)

    def _constant_key(self) -> Tensor:
        """k = Wk^T q [D] with q = (Wq c + bq) / sqrt(D); the key bias adds the same to every score and drops out."""
        wq, wk, _ = self.attention.in_proj_weight.chunk(3)
        query = (wq @ self.cls + self.attention.in_proj_bias[: self.width]) / math.sqrt(self.width)
        return query @ wk


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
