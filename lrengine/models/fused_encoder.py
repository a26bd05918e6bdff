"""What layer fusion with and without an LLM share: run the encoder, mix its layers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lrengine.models.config_io import require_floats
from lrengine.models.encoders import all_layer_states, build_encoder, freeze
from lrengine.models.kept_states import KeptStates
from lrengine.models.mapper import LatentMapper
from lrengine.models.mixer import LayerMixer, build_mixer


class FusedEncoderModel(PreTrainedModel):
    """`encoder` and `mixer`; frozen parts stay in eval mode and get no gradients, also under train()."""

    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    kept_states: KeptStates | None = None  # set where a frozen encoder is to run once for each text (right-padded ids)

    def _build_encoder_and_mixer(self, config: Any) -> None:
        require_floats(config)
        self.encoder = build_encoder(config.encoder)
        self.mixer = build_mixer(config.mixer, config.encoder.num_hidden_layers, config.encoder.hidden_size)

    def _init_weights(self, module: nn.Module) -> None:
        """torch's own first values for the parts that train from scratch, as in the published code."""
        if isinstance(module, nn.MultiheadAttention):
            module._reset_parameters()
        elif isinstance(module, nn.Linear | nn.LayerNorm | LayerMixer | LatentMapper):
            module.reset_parameters()

    def frozen_parts(self) -> list[nn.Module]:
        """The submodules that the config says are constant."""
        return [self.encoder] if self.config.freeze_encoder else []

    def train(self, mode: bool = True) -> FusedEncoderModel:
        super().train(mode)
        for part in self.frozen_parts():
            freeze(part)
        return self

    def layer_states(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """ids, mask [B, S] -> the L layers' states, each [B, S, D]; and the mask."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self.kept_states is not None:
            return self.kept_states(input_ids, mask, partial(all_layer_states, self.encoder)), mask
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_encoder):
            return all_layer_states(self.encoder, input_ids, mask), mask

    def fused_states(self, input_ids: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """ids, mask [B, S] -> fused states [B, S, D] and mixer weights [B, S, L], zeros at padding; and the mask."""
        states, mask = self.layer_states(input_ids, attention_mask)
        fused, weights = self.mixer(states, mask)
        return fused, weights, mask

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def get_output_embeddings(self) -> None:
        """None: nothing of this model's own is tied; the LLM ties itself."""
