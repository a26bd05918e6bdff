"""SWCM in PyTorch: a multilingual encoder turned into a seq2seq model by sharing its weights (MODELS.md, A)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from lrengine.models.config_io import require_floats
from lrengine.models.encoders import build_encoder, encoder_layers, load_encoder
from lrengine.models.losses import IGNORED_LABEL, projected_cross_entropy, token_cross_entropy
from lrengine.models.swcm_config import SwcmConfig
from lrengine.models.swcm_decoder import SwcmDecoder
from lrengine.stop_ids import as_list


class OutputProjection(nn.Module):
    """logits = h W^T + b with W [V, D] its own or, when tied, the word embedding; b only if the config asks for it."""

    def __init__(self, config: SwcmConfig) -> None:
        super().__init__()
        width, vocabulary = config.encoder.hidden_size, config.vocab_size
        self.weight = None if config.tie_word_embeddings else nn.Parameter(torch.empty(vocabulary, width))
        self.bias = nn.Parameter(torch.zeros(vocabulary)) if config.output_bias else None

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        return linear(hidden, word_embeddings if self.weight is None else self.weight, self.bias)

    def loss(
        self, hidden: Tensor, word_embeddings: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The loss of the logits, without keeping these."""
        weight = word_embeddings if self.weight is None else self.weight
        return projected_cross_entropy(hidden, weight, self.bias, labels, num_items_in_batch)


class SwcmPreTrainedModel(PreTrainedModel):
    config_class = SwcmConfig
    base_model_prefix = "swcm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["CustomLayer", "NormalLayer"]

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.encoder.initializer_range
        if isinstance(module, nn.Linear | OutputProjection):
            if module.weight is not None:
                nn.init.normal_(module.weight, mean=0.0, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class SwcmForConditionalGeneration(SwcmPreTrainedModel, GenerationMixin):
    """Encoder, decoder made of the encoder's blocks, output projection. `generate()` is transformers' own."""

    def __init__(self, config: SwcmConfig) -> None:
        super().__init__(config)
        require_floats(config)
        self.encoder = build_encoder(config.encoder)
        self.decoder = SwcmDecoder(config)
        self.lm_head = OutputProjection(config)
        self.post_init()

    @classmethod
    def from_encoder(
        cls,
        encoder: str | Path | PreTrainedModel,
        *,
        tokenizer: Any = None,
        dtype: torch.dtype | str | None = None,
        **config_fields: Any,
    ) -> SwcmForConditionalGeneration:
        """A model whose decoder starts from `encoder`'s weights (a directory, a hub name or a loaded model).

        config_fields: SwcmConfig's. Token ids come from them, else from `tokenizer`, else from the encoder's config.
        Raises ValueError when an id is found nowhere (BERT configs do not hold them)."""
        source = load_encoder(encoder, dtype)
        ids = _target_token_ids(source.config, tokenizer, config_fields)
        model: Any = cls(SwcmConfig(encoder=source.config, **{**config_fields, **ids}))
        model = model.to(dtype=source.dtype)
        model.encoder.load_state_dict(source.state_dict())
        if model.config.sharing != "none":
            for layer, encoder_layer in zip(model.decoder.custom_layers(), encoder_layers(model.encoder), strict=True):
                layer.copy_from(encoder_layer)
        if model.lm_head.weight is not None and model.config.sharing != "none":
            with torch.no_grad():
                model.lm_head.weight.copy_(model.get_input_embeddings().weight)
        return model.train(source.training)

    def save_pretrained(self, save_directory: str | os.PathLike[Any], *args: Any, **kwargs: Any) -> Any:
        """As transformers does it. generate() stops at the generation config's end tokens, the engine at config.json's:
        both get those of both. The config's first one stays the first: it closes targets."""
        known = as_list(self.config.eos_token_id)
        ends = known + [token for token in as_list(self.generation_config.eos_token_id) if token not in known]
        self.config.eos_token_id = self.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
        return super().save_pretrained(save_directory, *args, **kwargs)

    def get_encoder(self, *args: Any, **kwargs: Any) -> PreTrainedModel:
        return self.encoder

    def get_decoder(self, *args: Any, **kwargs: Any) -> SwcmDecoder:
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.encoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module | None:
        """None when tied: the projection reads the word embedding itself, there is nothing for transformers to tie."""
        return None if self.config.tie_word_embeddings else self.lm_head

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple[Tensor, ...] | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        with_logits: bool = True,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits [B, T, V], and with labels [B, T] (-100: not counted) the loss; without `with_logits` only the loss.

        input_ids, attention_mask [B, S]: source. decoder_input_ids [B, T]: by default the labels shifted right.
        encoder_outputs replaces input_ids; past_key_values holds the earlier target tokens and the source's keys."""
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("give decoder_input_ids or labels")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        use_cache = (self.config.use_cache if use_cache is None else use_cache) and labels is None
        if self.training and self.decoder.gradient_checkpointing:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        hidden = self.decoder(
            decoder_input_ids,
            self.encoder.embeddings,
            encoder_layers(self.encoder),
            encoder_outputs[0],
            attention_mask,
            decoder_attention_mask,
            past_key_values if use_cache else None,
        )
        words = self.get_input_embeddings().weight
        logits = self.lm_head(hidden, words) if with_logits or labels is None else None
        loss = None
        if labels is not None:
            loss = (
                self.lm_head.loss(hidden, words, labels, num_items_in_batch)
                if logits is None
                else token_cross_entropy(logits, labels, num_items_in_batch)
            )
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values if use_cache else None,
            encoder_last_hidden_state=encoder_outputs[0],
        )

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """[B, T]: decoder start, then the labels but the last; -100 becomes padding."""
        shifted = labels.roll(1, dims=-1)
        shifted[:, 0] = self.config.decoder_start_token_id
        return shifted.masked_fill(shifted == IGNORED_LABEL, self.config.pad_token_id)


def _target_token_ids(encoder_config: Any, tokenizer: Any, given: dict[str, Any]) -> dict[str, Any]:
    """bos, pad and eos of the target side; BERT tokenizers call them [CLS], [PAD] and [SEP]."""
    ids = {}
    for name, bert_name in (("bos", "cls"), ("pad", "pad"), ("eos", "sep")):
        field = f"{name}_token_id"
        value = given.get(field)
        if value is None and tokenizer is not None:
            value = getattr(tokenizer, field, None)
            if value is None:
                value = getattr(tokenizer, f"{bert_name}_token_id", None)
        if value is None and tokenizer is None:
            value = getattr(encoder_config, field, None)
        if value is None:
            raise ValueError(f"the encoder's config has no {field}: give `tokenizer`, or {field} itself")
        ids[field] = value
    return ids
