"""Layer fusion: all layers of a multilingual encoder, mixed per token, feed an English LLM (MODELS.md, B)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import ModelOutput

from lrengine.kernels.dispatch import is_plain_linear, use_triton
from lrengine.kernels.mix_mapper import mix_mapper
from lrengine.models.encoders import load_encoder
from lrengine.models.fused_encoder import FusedEncoderModel
from lrengine.models.fusion_config import LayerFusionConfig
from lrengine.models.losses import IGNORED_LABEL, projected_cross_entropy, token_cross_entropy
from lrengine.models.mapper import TokenMapper, build_mapper
from lrengine.models.packing import Packed, pack_left


@dataclass
class LayerFusionOutput(ModelOutput):
    """With labels [B, T]: logits [B, T, V], those at t predict labels[:, t]. Without: [B, 1, V], for the next token."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    mixer_weights: Tensor | None = None  # [B, S, L], zeros at padding


class LayerFusionForCausalLM(FusedEncoderModel):
    """Trained: mixer, mapper, end boundary. Encoder and LLM are frozen unless the config says otherwise."""

    config_class = LayerFusionConfig
    base_model_prefix = "layer_fusion"

    def __init__(self, config: LayerFusionConfig) -> None:
        super().__init__(config)
        self._build_encoder_and_mixer(config)
        self.mapper = build_mapper(config.mapper, config.encoder.hidden_size, config.llm.hidden_size)
        self.end_boundary = nn.Parameter(torch.zeros(config.llm.hidden_size))
        llm_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config.llm)]
        self.llm = llm_class(config.llm)
        # An instruct model's own sampling defaults would change results between a fresh and a reloaded model.
        self.llm.generation_config = GenerationConfig()
        self.post_init()
        self.train(self.training)

    @classmethod
    def from_pretrained_parts(
        cls,
        encoder: str | Path | PreTrainedModel,
        llm: str | Path | PreTrainedModel,
        *,
        mixer: str | dict[str, Any] = "transformer",
        mapper: str | dict[str, Any] = "linear",
        dtype: torch.dtype | str | None = None,
        **config_fields: Any,
    ) -> LayerFusionForCausalLM:
        """A model from a trained encoder and a trained LLM (directories, hub names or loaded models; a loaded LLM
        becomes part of the model, it is not copied) with a fresh mixer and mapper. config_fields: LayerFusionConfig's;
        token ids that are not among them are the LLM's."""
        source = load_encoder(encoder, dtype)
        lm: Any = llm
        if not isinstance(llm, PreTrainedModel):
            lm = AutoModelForCausalLM.from_pretrained(llm, dtype=dtype or torch.float32)
        fields = {**_token_ids(lm), **config_fields}
        config = LayerFusionConfig(encoder=source.config, llm=lm.config, mixer=mixer, mapper=mapper, **fields)
        with torch.device("meta"):
            model: Any = cls(config)
        model.encoder, model.llm = source, lm
        model.llm.generation_config = GenerationConfig()
        for part in (model.mixer, model.mapper):
            part.to_empty(device=lm.device).to(lm.dtype)
            part.apply(model._init_weights)
        model.end_boundary = nn.Parameter(torch.zeros(lm.config.hidden_size, dtype=lm.dtype, device=lm.device))
        return model.train(source.training)

    def frozen_parts(self) -> list[nn.Module]:
        return super().frozen_parts() + ([self.llm] if self.config.freeze_llm else [])

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prompt_ids: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        with_logits: bool = True,
        **kwargs: Any,
    ) -> LayerFusionOutput:
        """Source [B, S], prompt [B, P] (LLM ids after the end boundary), labels [B, T] (-100: padding, squeezed out).

        The loss counts the label tokens only; end them with the end token. See LayerFusionOutput for the logits; with
        labels and without `with_logits` there are none."""
        prefix, mixer_weights = self._prefix_segments(input_ids, attention_mask, prompt_ids, prompt_attention_mask)
        if labels is None:
            packed = pack_left(prefix)
            wanted = packed.embeddings.shape[1] + torch.zeros_like(input_ids[:, :1])  # what follows the last token
        else:
            real = labels != IGNORED_LABEL
            packed = pack_left([*prefix, (self._embed(labels.masked_fill(~real, 0)), real)])
            wanted = packed.slots[:, -labels.shape[1] :]
        hidden = self._llm_states(packed)
        before = (wanted - 1).clamp_min(0)[..., None].expand(-1, -1, hidden.shape[-1])
        chosen, head = hidden.gather(1, before), self.llm.get_output_embeddings()
        if labels is not None and not with_logits and is_plain_linear(head):
            return LayerFusionOutput(
                loss=projected_cross_entropy(chosen, head.weight, head.bias, labels, num_items_in_batch),
                mixer_weights=mixer_weights,
            )
        logits = head(chosen)
        loss = None if labels is None else token_cross_entropy(logits, labels, num_items_in_batch)
        return LayerFusionOutput(loss=loss, logits=logits, mixer_weights=mixer_weights)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        prompt_ids: Tensor | None = None,
        prompt_attention_mask: Tensor | None = None,
        prefix_ids: Tensor | None = None,
        **options: Any,
    ) -> Any:
        """New tokens [B * num_return_sequences, <= max_new_tokens], by transformers' generate with all its `options`.

        prefix_ids [P] or [B, P]: forced first target tokens; penalties see them, the result does not hold them. With
        return_dict_in_generate the result is transformers' own output, its `sequences` without the prefix."""
        segments, _ = self._prefix_segments(input_ids, attention_mask, prompt_ids, prompt_attention_mask)
        forced = 0
        if prefix_ids is not None and prefix_ids.shape[-1] > 0:
            prefix_ids = prefix_ids.expand(input_ids.shape[0], -1)
            segments.append((self._embed(prefix_ids), torch.ones_like(prefix_ids)))
            options["input_ids"], forced = prefix_ids, prefix_ids.shape[1]
        packed = pack_left(segments)
        _apply_repetition_penalty_to_all_rows(options)
        options.setdefault("eos_token_id", self.config.eos_token_id)
        options.setdefault("pad_token_id", self.config.pad_token_id)
        result = self.llm.generate(inputs_embeds=packed.embeddings, attention_mask=packed.mask, **options)
        if isinstance(result, Tensor):
            return result[:, forced:]
        result.sequences = result.sequences[:, forced:]
        return result

    def _prefix_segments(
        self, input_ids: Tensor, mask: Tensor | None, prompt_ids: Tensor | None, prompt_mask: Tensor | None
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """[BOS] [mapped tokens] [end boundary] [prompt] as segments to pack, and the mixer's weights."""
        states, mask = self.layer_states(input_ids, mask)
        mapped, mapped_mask, mixer_weights = self._mapped(states, mask)
        one = torch.ones_like(input_ids[:, :1])
        segments = [(mapped, mapped_mask), (self.end_boundary.expand(len(one), 1, -1), one)]
        if self.config.bos_token_id is not None:
            segments.insert(0, (self._embed(one * self.config.bos_token_id), one))
        if prompt_ids is not None and prompt_ids.shape[1] > 0:
            given = torch.ones_like(prompt_ids) if prompt_mask is None else prompt_mask
            segments.append((self._embed(prompt_ids), given))
        llm_dtype = self.llm.get_input_embeddings().weight.dtype
        return [(embedded.to(llm_dtype), kept) for embedded, kept in segments], mixer_weights

    def _mapped(self, states: list[Tensor], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mapped states [B, S', E], their mask, and the mixer's weights; in one launch where the kernel for it runs."""
        dtype = self.end_boundary.dtype
        if isinstance(self.mapper, TokenMapper) and self.mixer.has_logits and states[0].dtype == dtype:
            first = self.mapper.layers[0]
            if is_plain_linear(first) and use_triton(states[0]):
                mapped, weights = mix_mapper(states, self.mixer.logits(states), mask, first.weight, first.bias)
                return self.mapper.after_first(mapped), mask, weights
        fused, weights = self.mixer(states, mask)
        mapped, mapped_mask = self.mapper(fused.to(dtype), mask)
        return mapped, mapped_mask, weights

    def _embed(self, ids: Tensor) -> Tensor:
        return self.llm.get_input_embeddings()(ids)

    def _llm_states(self, packed: Packed) -> Tensor:
        """Last hidden states [B, N, E], after the LLM's final norm."""
        return self.llm.model(
            inputs_embeds=packed.embeddings,
            attention_mask=packed.mask,
            position_ids=packed.position_ids,
            use_cache=False,
        ).last_hidden_state


def _apply_repetition_penalty_to_all_rows(options: dict[str, Any]) -> None:
    """transformers 5 leaves out as many first tokens of a row as it has left padding, but here the padding is in the
    embeddings and the ids hold new tokens only: a processor given explicitly replaces the one it would make."""
    penalty = options.get("repetition_penalty")
    if penalty is not None and penalty != 1.0:
        given = options.get("logits_processor") or ()
        options["logits_processor"] = LogitsProcessorList([*given, RepetitionPenaltyLogitsProcessor(penalty)])


def _token_ids(llm: PreTrainedModel) -> dict[str, Any]:
    """bos, eos, pad of the LLM; an instruct model's generation config knows more end tokens than its config. Rows that
    ended are filled with the pad id, for which any end token serves."""
    ids: dict[str, Any] = {}
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = getattr(llm.generation_config, field, None) if llm.generation_config is not None else None
        ids[field] = getattr(llm.config, field, None) if value is None else value
    if ids["pad_token_id"] is None:
        end = ids["eos_token_id"]
        ids["pad_token_id"] = end[0] if isinstance(end, list) else end
    return ids
