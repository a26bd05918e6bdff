"""Classification without an LLM: encoder, mixer, mean over the tokens, linear head (MODELS.md, C)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from lrengine.models.encoders import load_encoder
from lrengine.models.fused_encoder import FusedEncoderModel
from lrengine.models.fusion_config import LayerFusionClassifierConfig


@dataclass
class LayerFusionClassifierOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None  # [B, C]
    mixer_weights: Tensor | None = None  # [B, S, L], zeros at padding


class LayerFusionForSequenceClassification(FusedEncoderModel):
    """logits = classifier(mean over the source's tokens of the mixed states)."""

    config_class = LayerFusionClassifierConfig
    base_model_prefix = "layer_fusion_classifier"

    def __init__(self, config: LayerFusionClassifierConfig) -> None:
        super().__init__(config)
        self._build_encoder_and_mixer(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.encoder.hidden_size, len(config.id2label or {}))
        self.post_init()
        self.train(self.training)

    @classmethod
    def from_encoder(
        cls,
        encoder: str | Path | PreTrainedModel,
        labels: Sequence[str],
        *,
        mixer: str | dict[str, Any] = "transformer",
        dtype: torch.dtype | str | None = None,
        **config_fields: Any,
    ) -> LayerFusionForSequenceClassification:
        """A classifier of `labels` over a trained encoder (a directory, a hub name or a loaded model), head and mixer
        fresh. config_fields: LayerFusionClassifierConfig's."""
        source = load_encoder(encoder, dtype)
        config = LayerFusionClassifierConfig(
            encoder=source.config, mixer=mixer, id2label=dict(enumerate(labels)), **config_fields
        )
        model: Any = cls(config)
        model = model.to(dtype=source.dtype)
        model.encoder.load_state_dict(source.state_dict())
        return model.train(source.training)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> LayerFusionClassifierOutput:
        """input_ids, attention_mask [B, S]; labels [B], class indices: cross-entropy."""
        fused, mixer_weights, mask = self.fused_states(input_ids, attention_mask)
        pooled = fused.sum(1) / mask.sum(1, keepdim=True).to(fused.dtype)  # padding is zeros
        logits = self.classifier(self.dropout(pooled.to(self.classifier.weight.dtype)))
        loss = None if labels is None else cross_entropy(logits.float(), labels)
        return LayerFusionClassifierOutput(loss=loss, logits=logits, mixer_weights=mixer_weights)
