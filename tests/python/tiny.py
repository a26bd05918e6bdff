"""Tiny random models at odd sizes: what tests of the models, the engine and the converters run on.

Weights are drawn so that logits differ clearly between tokens (a default initialisation makes arg-max a coin toss) and
no norm or bias is trivial. The same arguments always give the same model. All are in eval mode, float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from lrengine.models.encoders import build_encoder

ENCODERS = ("xlm-roberta", "roberta", "bert", "t5", "mt5", "umt5", "m2m_100")
BERT_ENCODERS = ("xlm-roberta", "roberta", "bert")
LLMS = ("llama", "llama3", "mistral", "qwen2", "qwen3")

VOCABULARY = 331  # of encoders; LLMs have 277
LLM_VOCABULARY = 277


def tiny_encoder_config(kind: str, layers: int = 3, **options: Any) -> PretrainedConfig:
    """Width 72, 3 heads of 24 (T5: of 20; M2M-100: as 72 / 3), feed-forward 104, vocabulary 331, `layers` layers."""
    if kind in BERT_ENCODERS:
        sizes: dict[str, Any] = {
            "hidden_size": 72, "num_attention_heads": 3, "intermediate_size": 104, "num_hidden_layers": layers,
            "max_position_embeddings": 330 if kind == "bert" else 332, "type_vocab_size": 2 if kind == "bert" else 1,
            "layer_norm_eps": 1e-12 if kind == "bert" else 1e-5,
        }  # fmt: skip
    elif kind in ("t5", "mt5", "umt5"):
        sizes = {
            "d_model": 72, "num_heads": 3, "d_kv": 20, "d_ff": 104, "num_layers": layers,
            "relative_attention_num_buckets": 16, "relative_attention_max_distance": 50,
            "feed_forward_proj": "relu" if kind == "t5" else "gated-gelu",
        }  # fmt: skip
    elif kind == "m2m_100":
        sizes = {
            "d_model": 72, "encoder_attention_heads": 3, "encoder_ffn_dim": 104, "encoder_layers": layers,
            "decoder_attention_heads": 3, "decoder_ffn_dim": 104, "decoder_layers": 1,
            "max_position_embeddings": 330, "encoder_layerdrop": 0.0, "scale_embedding": True,
        }  # fmt: skip
    else:
        raise ValueError(f"unknown tiny encoder '{kind}': one of {ENCODERS}")
    return AutoConfig.for_model(kind, **{"vocab_size": VOCABULARY, **sizes, **options})


def tiny_encoder(kind: str = "xlm-roberta", layers: int = 3, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A random encoder of `kind` (see ENCODERS); options: its Hugging Face config fields."""
    return randomise(build_encoder(tiny_encoder_config(kind, layers, **options)), seed)


def tiny_llm(kind: str = "llama", seed: int = 1, **options: Any) -> PreTrainedModel:
    """A random decoder-only LM of `kind` (see LLMS; llama3: with its RoPE scaling): width 60, 6 heads of 10 (qwen3: of
    14), 2 key/value heads, feed-forward 92, 2 layers, vocabulary 277. qwen2 and llama3 tie their output."""
    sizes: dict[str, Any] = {
        "hidden_size": 60, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 92,
        "num_hidden_layers": 2, "vocab_size": LLM_VOCABULARY, "max_position_embeddings": 700, "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": kind in ("qwen2", "llama3"),
    }  # fmt: skip
    if kind == "llama3":
        sizes["rope_theta"] = 500000.0
        sizes["rope_scaling"] = {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }  # fmt: skip
    elif kind == "qwen3":
        sizes["head_dim"] = 14
    elif kind == "mistral":
        sizes["sliding_window"] = None
    config = AutoConfig.for_model("llama" if kind == "llama3" else kind, **{**sizes, **options})
    return randomise(AutoModelForCausalLM.from_config(config), seed)


def tiny_swcm(encoder: str = "xlm-roberta", layers: int = 3, seed: int = 0, **options: Any) -> PreTrainedModel:
    """A random SWCM; options: SwcmConfig's fields. By default X = 2, so 4 decoder layers.

    Every parameter is random (the decoder is no copy of the encoder), ids: start and bos 0, pad 1, eos 2."""
    from lrengine.models import SwcmConfig, SwcmForConditionalGeneration

    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    fields = {"normal_layer_interval": 2, **ids, **options}
    config = SwcmConfig(encoder=tiny_encoder_config(encoder, layers), **fields)
    return randomise(SwcmForConditionalGeneration(config), seed)


def int4_swcm(seed: int = 0) -> PreTrainedModel:
    """A random SWCM whose widths are whole blocks of int4, but not whole groups: 96 and 160."""
    from lrengine.models import SwcmConfig, SwcmForConditionalGeneration

    encoder = tiny_encoder_config("xlm-roberta", hidden_size=96, intermediate_size=160)
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    return randomise(SwcmForConditionalGeneration(SwcmConfig(encoder=encoder, normal_layer_interval=2, **ids)), seed)


def int4_fusion(seed: int = 0) -> PreTrainedModel:
    """The same of mT5, transformer mixer and Llama: 96, 160 and, in the LLM, 64 and 224."""
    from lrengine.models import LayerFusionForCausalLM

    encoder = tiny_encoder("mt5", d_model=96, d_kv=32, d_ff=160)
    llm = tiny_llm(hidden_size=64, num_attention_heads=4, head_dim=16, intermediate_size=224)
    mixer = {"type": "transformer", "ffn_dim": 64}
    return randomise(LayerFusionForCausalLM.from_pretrained_parts(encoder, llm, mixer=mixer, mapper="linear"), seed)


def tiny_fusion(
    encoder: str = "mt5",
    llm: str = "llama",
    mixer: str | dict[str, Any] = "transformer",
    mapper: str | dict[str, Any] = "linear",
    seed: int = 0,
    **options: Any,
) -> PreTrainedModel:
    """A random layer-fusion model; options: LayerFusionConfig's fields."""
    from lrengine.models import LayerFusionForCausalLM

    model = LayerFusionForCausalLM.from_pretrained_parts(
        tiny_encoder(encoder), tiny_llm(llm), mixer=_small_mixer(mixer), mapper=mapper, **options
    )
    return randomise(model, seed)


def tiny_classifier(
    encoder: str = "xlm-roberta",
    mixer: str | dict[str, Any] = "transformer",
    labels: tuple[str, ...] = ("red", "green", "blue"),
    seed: int = 0,
    **options: Any,
) -> PreTrainedModel:
    """A random classifier; options: LayerFusionClassifierConfig's fields."""
    from lrengine.models import LayerFusionForSequenceClassification

    model = LayerFusionForSequenceClassification.from_encoder(
        tiny_encoder(encoder), labels=labels, mixer=_small_mixer(mixer), **options
    )
    return randomise(model, seed)


def random_sources(lengths: list[int], seed: int = 0, vocabulary: int = VOCABULARY) -> list[list[int]]:
    """Rows of ids without special tokens (5 and up), one of each length."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, vocabulary, (length,), generator=generator).tolist() for length in lengths]


def pad_batch(rows: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids [B, S] and their mask [B, S]."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def save(model: PreTrainedModel, directory: str | Path, **options: Any) -> Path:
    """`save_pretrained`; the directory is what `lrengine.Engine.load` reads."""
    model.save_pretrained(directory, **options)
    return Path(directory)


@torch.no_grad()
def randomise(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Redraw every parameter: matrices ~ N(0, 1 / fan-in), vectors ~ 0.1 N(0, 1), norm gains about 1.
    Positions count as much as words, so that outputs do not just repeat. Eval mode."""
    generator = torch.Generator().manual_seed(seed)
    gains = {
        f"{name}.weight" for name, module in model.named_modules() if "norm" in type(module).__name__.lower()
    }  # LayerNorm, T5LayerNorm, LlamaRMSNorm, ...
    for name, parameter in sorted(model.named_parameters()):  # sorted: their order differs between library versions
        noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        if name in gains:
            parameter.copy_(1.0 + 0.2 * noise)
        elif parameter.dim() < 2 or min(parameter.shape) == 1:
            parameter.copy_(0.1 * noise)
        elif _is_embedding(model, name):
            parameter.copy_(noise if "position" in name else 0.5 * noise)
        else:
            parameter.copy_(noise * parameter.shape[-1] ** -0.5)
    return model.eval()


def _is_embedding(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)


def _small_mixer(mixer: str | dict[str, Any]) -> dict[str, Any]:
    return {"ffn_dim": 88, **({"type": mixer} if isinstance(mixer, str) else mixer)}
