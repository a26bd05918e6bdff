"""Configs of layer fusion: encoder + mixer, and an LLM or a classification head (fields: docs/MODEL_DIRECTORY.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from lrengine.models.config_io import complete_dict, sub_config
from lrengine.models.encoders import ENCODER_TYPES
from lrengine.models.mapper import mapper_settings
from lrengine.models.mixer import mixer_settings

LLM_TYPES = ("llama", "mistral", "qwen2", "qwen3")


class _FusedEncoderConfig(PretrainedConfig):
    """What both models have: an encoder and a mixer."""

    has_no_defaults_at_init = True

    def _set_encoder(self, encoder: PretrainedConfig | dict[str, Any] | None) -> None:
        self.encoder = sub_config(encoder, "encoder")
        if self.encoder.model_type not in ENCODER_TYPES:
            raise ValueError(f"encoder model_type '{self.encoder.model_type}' is not one of {', '.join(ENCODER_TYPES)}")

    def to_dict(self) -> dict[str, Any]:
        return complete_dict(self)

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()


class LayerFusionConfig(_FusedEncoderConfig):
    """An encoder whose mixed layers feed an LLM. Token ids are the LLM's, and taken from its config when not given;
    `bos_token_id` None: no BOS embedding. Raises ValueError for fields that are missing or contradict each other."""

    model_type = "layer_fusion"
    sub_configs = {"encoder": AutoConfig, "llm": AutoConfig}

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        llm: PretrainedConfig | dict[str, Any] | None = None,
        *,
        mixer: str | dict[str, Any] = "transformer",
        mapper: str | dict[str, Any] = "linear",
        bos_token_id: int | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        prompt_template: str | None = None,
        freeze_encoder: bool = True,
        freeze_llm: bool = True,
        **kwargs: Any,
    ) -> None:
        self._set_encoder(encoder)
        self.llm = sub_config(llm, "llm")
        if self.llm.model_type not in LLM_TYPES:
            raise ValueError(f"llm model_type '{self.llm.model_type}' is not one of {', '.join(LLM_TYPES)}")
        kwargs["tie_word_embeddings"] = False  # this model's own; the LLM's config says whether the LLM ties
        super().__init__(**kwargs)
        self.mixer = mixer_settings(mixer)
        self.mapper = mapper_settings(mapper, self.encoder.hidden_size)
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.pad_token_id = pad_token_id
        self.prompt_template = prompt_template
        if prompt_template is not None and "{prompt}" not in prompt_template:
            raise ValueError(f"prompt_template {prompt_template!r} lacks {{prompt}}")
        self.freeze_encoder = freeze_encoder
        self.freeze_llm = freeze_llm

    @property
    def hidden_size(self) -> int:
        return self.llm.hidden_size


class LayerFusionClassifierConfig(_FusedEncoderConfig):
    """An encoder whose mixed layers, averaged over the tokens, feed a linear head.

    `id2label`: every class, from 0; without it `num_labels` makes names up. Raises ValueError."""

    model_type = "layer_fusion_classifier"
    sub_configs = {"encoder": AutoConfig}

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        *,
        mixer: str | dict[str, Any] = "transformer",
        id2label: Mapping[int, str] | Mapping[str, str] | None = None,
        pooling: str = "mean",
        classifier_dropout: float = 0.1,
        freeze_encoder: bool = False,
        **kwargs: Any,
    ) -> None:
        self._set_encoder(encoder)
        if id2label is not None:
            labels = {int(index): name for index, name in id2label.items()}
            if sorted(labels) != list(range(len(labels))) or not labels:
                raise ValueError(f"id2label must name every class from 0: {dict(id2label)}")
            kwargs["id2label"] = {index: labels[index] for index in range(len(labels))}
            kwargs["label2id"] = {name: index for index, name in kwargs["id2label"].items()}
            kwargs.pop("num_labels", None)
        super().__init__(**kwargs)
        self.mixer = mixer_settings(mixer)
        if pooling != "mean":
            raise ValueError(f"pooling '{pooling}' is not mean")
        self.pooling = pooling
        self.classifier_dropout = classifier_dropout
        self.freeze_encoder = freeze_encoder

    @property
    def hidden_size(self) -> int:
        return self.encoder.hidden_size
