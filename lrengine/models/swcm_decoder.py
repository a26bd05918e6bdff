"""SWCM's decoder: embeds target ids with the encoder's own embedding layer and runs the decoder layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from lrengine.models.swcm_config import SwcmConfig
from lrengine.models.swcm_layers import CustomLayer, DecoderInputs, NormalLayer


class SwcmDecoder(nn.Module):
    """Custom and normal layers in order. Owns no embeddings: the encoder's are passed in, applied once, to the ids."""

    def __init__(self, config: SwcmConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            CustomLayer(config, index) if kind == "custom" else NormalLayer(config, index)
            for index, kind in enumerate(config.layer_kinds())
        )
        self.gradient_checkpointing = False  # this and the function: set by gradient_checkpointing_enable()
        self._gradient_checkpointing_func: Any = None

    def custom_layers(self) -> list[CustomLayer]:
        """The custom layers: the i-th belongs to encoder layer i."""
        return [layer for layer in self.layers if isinstance(layer, CustomLayer)]

    def forward(
        self,
        ids: Tensor,
        embeddings: nn.Module,
        encoder_layers: nn.ModuleList,
        encoder_states: Tensor,
        source_mask: Tensor | None,
        target_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
    ) -> Tensor:
        """ids [B, T] -> hidden states [B, T, D].

        source_mask [B, S], target_mask [B, P + T]: 1 marks a token, None: all are; P tokens are in `cache`.
        Raises ValueError when P + T is more than the position table holds."""
        past = cache.get_seq_length() if cache is not None else 0
        inputs = DecoderInputs(
            source_mask=None if source_mask is None else source_mask[:, None, None, :].bool(),
            target_mask=_attention_mask(target_mask, past, ids.shape[1], ids.device),
            causal=bool(target_mask is None and past == 0 and ids.shape[1] > 1),  # tracers make tensors of sizes
            cache=cache,
        )
        hidden = embeddings(input_ids=ids, position_ids=self._position_ids(ids, target_mask, past))
        source_layers = iter(encoder_layers)
        for layer in self.layers:
            arguments: tuple[Any, ...] = (hidden, encoder_states, inputs)
            if isinstance(layer, CustomLayer):
                arguments += (next(source_layers),)
            if self.gradient_checkpointing and self.training:
                hidden = self._gradient_checkpointing_func(layer.__call__, *arguments)
            else:
                hidden = layer(*arguments)
        return hidden

    def _position_ids(self, ids: Tensor, target_mask: Tensor | None, past: int) -> Tensor:
        """[B, T]: offset + index among the row's tokens. Not from the ids: a target's first pads are masked ones, and
        the ids of earlier tokens are gone when the cache is used."""
        length = past + ids.shape[1]
        if length > self.config.max_target_positions:
            raise ValueError(
                f"the target has {length} tokens, the model's positions end at {self.config.max_target_positions}"
            )
        if target_mask is None:
            index = torch.arange(past, length, device=ids.device).expand(ids.shape[0], -1)
        else:
            index = (target_mask.long().cumsum(-1) - 1).clamp_min(0)[:, past:]
        return index + self.config.position_offset


def _attention_mask(target_mask: Tensor | None, past: int, new: int, device: torch.device) -> Tensor | None:
    """[B or 1, 1, T, P + T] bool, True: may look; None when plain causal attention, or one new token, needs no mask."""
    if target_mask is None and (past == 0 or new == 1):
        return None
    causal = torch.ones(new, past + new, dtype=torch.bool, device=device).tril(past)[None, None]
    if target_mask is None:
        return causal
    itself = torch.eye(new, past + new, dtype=torch.bool, device=device).roll(past, dims=1)
    # A padding row looks at itself: a row that looks nowhere would be NaN.
    return causal & (target_mask[:, None, None, :].bool() | itself)
