"""The multilingual encoders: one way to build, load and run every kind.

Kinds: BERT, RoBERTa, XLM-R (post-norm, learned positions), the encoders of T5 / mT5 / umT5 (pre-norm RMSNorm, relative
bias) and of M2M-100 / NLLB (pre-norm LayerNorm, sinusoidal positions).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

_BERT_KINDS = {"bert": "BertModel", "roberta": "RobertaModel", "xlm-roberta": "XLMRobertaModel"}
_T5_KINDS = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel"}
ENCODER_TYPES = (*_BERT_KINDS, *_T5_KINDS, "m2m_100")

# Where an encoder's tensors lie in the models that contain it (a masked LM, a seq2seq model, itself).
_CONTAINER_PREFIXES = ("", "roberta.", "bert.", "encoder.", "model.encoder.", "model.")


def build_encoder(config: Any) -> PreTrainedModel:
    """A randomly initialised encoder of `config` (without pooler). Raises ValueError for an unknown model_type."""
    config = copy.deepcopy(config)
    if config.model_type in _BERT_KINDS:
        return getattr(transformers, _BERT_KINDS[config.model_type])(config, add_pooling_layer=False)
    if config.model_type in _T5_KINDS:
        return getattr(transformers, _T5_KINDS[config.model_type])(config)
    if config.model_type == "m2m_100":
        from transformers.models.m2m_100.modeling_m2m_100 import M2M100Encoder

        config.encoder_layerdrop = 0.0  # a dropped layer would leave a hole in the list of layer states
        return M2M100Encoder(config)
    raise ValueError(f"encoder model_type '{config.model_type}' is not one of {', '.join(ENCODER_TYPES)}")


def load_encoder(source: str | Path | PreTrainedModel, dtype: torch.dtype | str | None = None) -> PreTrainedModel:
    """An encoder with trained weights: from a directory or hub name, or a copy of the one inside a loaded model.

    `source` may hold more than the encoder (a language-model head, a decoder, a pooler): the rest is left behind.
    `dtype` None: a file's weights become float32 (what transformers does of itself depends on its version)."""
    if isinstance(source, PreTrainedModel):
        return _copy_encoder(source).to(dtype=_as_dtype(dtype) or source.dtype)
    options: dict[str, Any] = {"dtype": dtype or torch.float32}
    config = AutoConfig.from_pretrained(source)
    if config.model_type == "m2m_100":
        whole = transformers.AutoModel.from_pretrained(source, **options)
        return _copy_encoder(whole).to(dtype=whole.dtype)
    if config.model_type in _BERT_KINDS:
        options["add_pooling_layer"] = False
    elif config.model_type not in _T5_KINDS:
        raise ValueError(f"{source}: encoder model_type '{config.model_type}' is not one of {', '.join(ENCODER_TYPES)}")
    return getattr(transformers, {**_BERT_KINDS, **_T5_KINDS}[config.model_type]).from_pretrained(source, **options)


def all_layer_states(encoder: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The L layers' outputs, each [B, S, D]; the last one after the encoder's final norm where it has one.

    input_ids, attention_mask: [B, S], 1 marks a token. The embedding output is not among them (MODELS.md, B)."""
    output = encoder(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True, return_dict=True)
    states = list(output.hidden_states[1:])
    layers = encoder.config.num_hidden_layers
    if len(states) != layers:
        raise RuntimeError(f"the encoder returned {len(states)} layer states, its config has {layers} layers")
    states[-1] = output.last_hidden_state
    return states


def encoder_layers(encoder: PreTrainedModel) -> nn.ModuleList:
    """The Transformer layers of a BERT-type encoder, first to last."""
    if encoder.config.model_type not in _BERT_KINDS:
        raise ValueError(
            f"'{encoder.config.model_type}' has no BERT-type layers; SWCM needs one of {list(_BERT_KINDS)}"
        )
    layers: Any = encoder.encoder
    return layers.layer


def is_bert_type(config: PretrainedConfig) -> bool:
    """Whether the encoder has post-norm layers and learned positions, as SWCM needs."""
    return config.model_type in _BERT_KINDS


def freeze(module: nn.Module) -> None:
    """No gradients, and no dropout: a frozen part is a constant function."""
    module.requires_grad_(False)
    module.eval()


def _copy_encoder(model: PreTrainedModel) -> Any:
    encoder = build_encoder(model.config)
    wanted = set(encoder.state_dict())
    available = model.state_dict()
    for prefix in _CONTAINER_PREFIXES:
        if all(prefix + name in available for name in wanted):
            encoder.load_state_dict({name: available[prefix + name] for name in wanted})
            return encoder.train(model.training)
    raise ValueError(f"no {model.config.model_type} encoder found in a {type(model).__name__}")


def _as_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    return getattr(torch, dtype) if isinstance(dtype, str) else dtype
